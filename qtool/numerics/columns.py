"""Column scales of a tabular activation, balanced against the weight that absorbs them.

A column-wise activation gives every column its own step s_k, and the weight row k becomes s_k * W_k
(graph.plan, ``folds``). Small steps are exact for the activation, but rows that shrink much against
the largest one are badly resolved by the weight's single step d. Writing w_k² = Σ_j W_kj² and e_k²
= E[x_k²], the expected squared output error over n outputs is

    Σ_k s_k² w_k² / 12   +   n d² Σ_k (e_k / s_k)² / 12,        d = max_k s_k max_j|W_kj| / qmax,

and for a given d each term of the sum is smallest at s_k² = √n d e_k / w_k, limited from below by
the observed range (no clipping beyond the observer's) and from above by d itself. That leaves one
number, d, which is searched. The idea is SmoothQuant's migration (Xiao et al. 2023, arXiv
2211.10438) with the error model in place of its exponent; it is exact in FP32 and free at run time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 96
"""Steps d that are tried, from the smallest feasible one to 256 times it."""


@dataclass(frozen=True)
class Columns:
    """What is known of a tabular activation and of the weight that reads it.

    Attributes:
        low: float32 (columns,), at most 0.
        high: float32 (columns,), at least 0.
        mean_square: float64 (columns,), E[x²] of each column.
        weight: float32 (columns, outputs); side by side when several weights read the activation.
        levels: qmax - qmin of the activation.
        weight_qmax: largest code of the weight.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean_square: NDArray[np.float64]
    weight: NDArray[np.float32]
    levels: int
    weight_qmax: int

    @property
    def row_max(self) -> NDArray[np.float64]:
        """max_j |W_kj|, shape (columns,)."""
        largest: NDArray[np.float64] = np.abs(self.weight.astype(np.float64)).max(axis=1)
        return largest

    def error(self, scale: NDArray[np.float64]) -> float:
        """Returns the expected squared output error of one row, for column steps ``scale`` > 0.

        The weight is taken to have one step d; with one per output, this is an upper bound.
        """
        step = (scale * self.row_max).max() / self.weight_qmax
        row_square = (self.weight.astype(np.float64) ** 2).sum(axis=1)
        rounding = (scale**2 * row_square).sum()
        weights = self.weight.shape[1] * step**2 * (self.mean_square / scale**2).sum()
        return float((rounding + weights) / 12)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which columns are not constant zero and are read by the weight, shape (columns,)."""
        used: NDArray[np.bool_] = (self.high > self.low) & (self.row_max > 0)
        return used

    def only(self, chosen: NDArray[np.bool_]) -> Columns:
        """Returns the chosen columns."""
        return dataclasses.replace(
            self,
            low=self.low[chosen],
            high=self.high[chosen],
            mean_square=self.mean_square[chosen],
            weight=self.weight[chosen],
        )


def widen_columns(columns: Columns) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns ranges that contain [low, high], some wider, with the smallest expected error."""
    chosen = columns.used
    if not chosen.any():
        return columns.low, columns.high
    used = columns.only(chosen)
    ratio = np.ones(len(columns.low))
    ratio[chosen] = np.maximum(_best_steps(used) / _tight_steps(used), 1)
    return (columns.low * ratio).astype(np.float32), (columns.high * ratio).astype(np.float32)


def column_gain_db(columns: Columns) -> float:
    """Returns how much one scale per column lowers the expected error against one scale for all.

    10 log10 of the ratio of both expected squared output errors; 6 dB are one bit of resolution.
    """
    used = columns.only(columns.used)
    if not len(used.low):
        return 0.0
    shared = np.full(len(used.low), (used.high.max() - used.low.min()) / used.levels, np.float64)
    return float(10 * np.log10(used.error(shared) / used.error(_best_steps(used))))


def _tight_steps(used: Columns) -> NDArray[np.float64]:
    return (used.high.astype(np.float64) - used.low) / used.levels


def _best_steps(used: Columns) -> NDArray[np.float64]:
    tight, row_max = _tight_steps(used), used.row_max
    row_norm = np.sqrt((used.weight.astype(np.float64) ** 2).sum(axis=1))
    root_mean_square = np.sqrt(np.maximum(used.mean_square, 0))
    smallest = (tight * row_max).max() / used.weight_qmax
    candidates = [
        np.clip(
            np.sqrt(np.sqrt(used.weight.shape[1]) * step * root_mean_square / row_norm),
            tight,
            used.weight_qmax * step / row_max,
        )
        for step in smallest * np.exp2(np.linspace(0, 8, CANDIDATES))
    ]
    return min(candidates, key=used.error)
