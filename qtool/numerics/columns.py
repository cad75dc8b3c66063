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

import numpy as np
from numpy.typing import NDArray

CANDIDATES = 96
"""Steps d that are tried, from the smallest feasible one to 256 times it."""


def widen_columns(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    mean_square: NDArray[np.float64],
    weight: NDArray[np.float32],
    *,
    levels: int,
    weight_qmax: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns ranges that contain [low, high], some wider, with the smallest expected output error.

    Args:
        low: float32 (columns,), at most 0.
        high: float32 (columns,), at least 0.
        mean_square: float64 (columns,), E[x²] of each column.
        weight: float32 (columns, outputs); side by side when several weights read the activation.
        levels: qmax - qmin of the activation.
        weight_qmax: largest code of the weight.
    """
    tight = (high.astype(np.float64) - low) / levels
    row_norm = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=1))
    row_max = np.abs(weight).max(axis=1).astype(np.float64)
    used = (tight > 0) & (row_max > 0)
    if not used.any():
        return low, high
    tight, row_norm, row_max = tight[used], row_norm[used], row_max[used]
    root_mean_square = np.sqrt(np.maximum(mean_square[used], 0))
    outputs = weight.shape[1]

    smallest = (tight * row_max).max() / weight_qmax
    best_error, best = np.inf, tight
    for step in smallest * np.exp2(np.linspace(0, 8, CANDIDATES)):
        ideal = np.sqrt(np.sqrt(outputs) * step * root_mean_square / row_norm)
        scale = np.clip(ideal, tight, weight_qmax * step / row_max)
        error = (scale**2 * row_norm**2).sum() + outputs * step**2 * (
            (root_mean_square / scale) ** 2
        ).sum()
        if error < best_error:
            best_error, best = error, scale
    ratio = np.ones(len(low))
    ratio[used] = np.maximum(best / tight, 1)
    return (low * ratio).astype(np.float32), (high * ratio).astype(np.float32)
