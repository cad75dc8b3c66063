"""What the weights of a quantized layer should be: those that give back the outputs of FP32.

A quantized layer computes x V of what it reads, x of K numbers, where FP32 computes y of its own
input. The error of N outputs over all rows is a quadratic function of V,

    e(V) = E|x V - y|² = Σ_n V_nᵀ H V_n - 2 V_nᵀ A_n + E[y_n²],  H = E[x xᵀ],  A = E[x yᵀ],

so three sums over the rows say all that rounding needs to know, however many rows there are. As x
is what the quantized layers before leave, V also makes up for their errors.

Source: Nagel et al. 2020, "AdaRound", arXiv 2004.10568, equation 25 (without its activation): the
asymmetric reconstruction of a layer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Grid(NamedTuple):
    """The numbers that weights may take: codes -qmax..qmax times a step.

    Attributes:
        step: float64 (K, N), above 0.
        qmax: float64 (N,), the largest code of each output.
    """

    step: Floats
    qmax: Floats

    def nearest(self, weight: Floats) -> Floats:
        """Returns the nearest codes to (K, N) weights."""
        return self.within(np.rint(weight / self.step))

    def within(self, codes: Floats) -> Floats:
        """Returns (rows, N) codes, each moved to the nearest that there is."""
        return np.clip(codes, -self.qmax, self.qmax)

    def of(self, rows: slice | NDArray[np.intp]) -> Grid:
        """Returns the grid of some inputs."""
        return Grid(self.step[rows], self.qmax)


class Reconstruction(NamedTuple):
    """The sums for one matrix, all float64.

    Attributes:
        weight: (K, N), of the FP32 layer.
        second: H, (K, K).
        aim: A, (K, N).
        power: E[y²], (N,).
    """

    weight: Floats
    second: Floats
    aim: Floats
    power: Floats

    def error(self, values: Floats) -> Floats:
        """Returns e of each output, (N,), for (K, N) weights."""
        products = values * (self.second @ values - 2 * self.aim)
        # What is left of large sums may be a rounding error below zero.
        return np.asarray(np.maximum(products.sum(axis=0) + self.power, 0))

    def target(self, damping: float) -> Floats:
        """Returns the (K, N) weights of the least error, held near those of FP32.

        Inputs that are seldom seen apart keep their weights.

        Args:
            damping: share of the mean of H's diagonal that a squared change of a weight costs;
                above 0.

        Source: ridge regression of y on x around the FP32 weights.
        """
        missed = self.aim - self.second @ self.weight
        if not missed.any():
            return self.weight
        return self.weight + np.linalg.solve(damped(self.second, damping), missed)

    def best(self, grid: Grid, before: Floats, after: Floats) -> Floats:
        """Returns, of two (K, N) arrays of codes, those with the smaller error for each output."""
        better = self.error(after * grid.step) < self.error(before * grid.step)
        return np.where(better, after, before)


def damped(second: Floats, damping: float) -> Floats:
    """Returns H with a share of the mean of its diagonal added to the diagonal."""
    return np.asarray(second + damping * np.diag(second).mean() * np.eye(len(second)))
