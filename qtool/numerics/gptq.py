"""GPTQ: the weights of a product rounded one row after another, each correcting those before.

Rounding to nearest makes every weight's error small and ignores that the errors of inputs that move
together add up. GPTQ rounds the weights of one input and moves the weights of the inputs that are
still to come to where they make up for it, as far as their second moment H says that they can.

Source: Frantar et al. 2022, "GPTQ", arXiv 2210.17323, algorithm 1: the update of Optimal Brain
Quantization (equation 2) in the same order for all outputs, from a Cholesky form of H⁻¹, block by
block. The order by falling E[x²] is "act-order" of the paper's code (github.com/IST-DASLab/gptq).
"""

from __future__ import annotations

import numpy as np

from qtool.numerics.reconstruction import Floats, Grid, damped

BLOCK = 128
"""Rows whose corrections are gathered before they are applied to the rest (the paper's B)."""


def gptq_codes(weight: Floats, second: Floats, grid: Grid, damping: float) -> Floats:
    """Returns codes (K, N) chosen by GPTQ, the inputs with the largest E[x²] first.

    An input that is always zero is rounded to nearest and corrects nothing.

    Args:
        weight: (K, N).
        second: H = E[x xᵀ], (K, K), of any rank.
        grid: the codes.
        damping: share of the mean of the diagonal that is added to it; above 0, so that the inverse
            exists.
    """
    power = np.diag(second)
    if not power.any():
        return grid.nearest(weight)
    order = np.argsort(-power, kind="stable")
    inverse = np.linalg.inv(damped(second[np.ix_(order, order)], damping))
    # H⁻¹ = Uᵀ U with U upper triangular; row k of U is what rounding k moves the later ones by.
    upper = np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, np.float64)
    codes = np.empty_like(weight)
    codes[order] = _in_order(weight[order], upper, grid.of(order))
    return codes


def _in_order(weight: Floats, upper: Floats, grid: Grid) -> Floats:
    left, codes = weight.copy(), np.empty_like(weight)
    for start in range(0, len(weight), BLOCK):
        stop = min(start + BLOCK, len(weight))
        errors = np.empty((stop - start, weight.shape[1]))
        for k in range(start, stop):
            codes[k] = grid.within(np.rint(left[k] / grid.step[k]))
            error = errors[k - start] = (left[k] - codes[k] * grid.step[k]) / upper[k, k]
            left[k + 1 : stop] -= np.outer(upper[k, k + 1 : stop], error)
        left[stop:] -= upper[start:stop, stop:].T @ errors
    return codes
