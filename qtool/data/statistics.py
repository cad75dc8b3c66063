"""Per-column statistics of numeric inputs, from one streaming pass.

Blocks are merged in order, in float64. The result is the same to the byte for any ``batch_rows``
and any way the files are cut, because blocks always hold the same rows (``blocks.read_blocks`` with
a fixed size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def signed_log(x: Float32, where: NDArray[np.bool_]) -> Float32:
    """Returns sign(x) * log(|x| + 1) in the columns of ``where``, x in the others; float32.

    Written as the ONNX operators Abs, Add, Log, Sign, Mul and Where compute it (ONNX has no Log1p).

    Args:
        x: float32 (rows, k).
        where: bool (k,).
    """
    if not where.any():
        return x
    return np.where(where, np.sign(x) * np.log(np.abs(x) + np.float32(1)), x)


@dataclass(frozen=True)
class NumericStatistics:
    """Statistics of k columns; each field has shape (k,).

    ``mean``, ``squares`` (sum of squared deviations), ``low`` and ``high`` describe the values
    after the log; ``raw_mean`` those before it. Missing values only count in ``missing``.
    """

    count: NDArray[np.int64]
    missing: NDArray[np.int64]
    raw_mean: Float64
    mean: Float64
    squares: Float64
    low: Float64
    high: Float64


def observe(x: Float32, log: NDArray[np.bool_]) -> NumericStatistics:
    """Returns the statistics of one block.

    Args:
        x: float32 (rows, k), NaN where missing.
        log: bool (k,), the columns that get the log.
    """
    missing = np.isnan(x)
    count = (~missing).sum(axis=0)
    divisor = np.maximum(count, 1)
    logged = signed_log(x, log).astype(np.float64)
    raw_mean = np.where(missing, 0.0, x.astype(np.float64)).sum(axis=0) / divisor
    mean = np.where(missing, 0.0, logged).sum(axis=0) / divisor
    squares = (np.where(missing, 0.0, logged - mean) ** 2).sum(axis=0)
    low = np.where(missing, np.inf, logged).min(axis=0, initial=np.inf)
    high = np.where(missing, -np.inf, logged).max(axis=0, initial=-np.inf)
    return NumericStatistics(count, missing.sum(axis=0), raw_mean, mean, squares, low, high)


def merge(a: NumericStatistics, b: NumericStatistics) -> NumericStatistics:
    """Returns the statistics of both sets of rows together.

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
        sample
    variances", equations 2.1.
    """
    count = a.count + b.count
    share = b.count / np.maximum(count, 1)
    delta = b.mean - a.mean
    return NumericStatistics(
        count=count,
        missing=a.missing + b.missing,
        raw_mean=a.raw_mean + (b.raw_mean - a.raw_mean) * share,
        mean=a.mean + delta * share,
        squares=a.squares + b.squares + delta**2 * a.count * share,
        low=np.minimum(a.low, b.low),
        high=np.maximum(a.high, b.high),
    )


def with_filled(statistics: NumericStatistics, filled: Float32) -> NumericStatistics:
    """Returns the statistics as if each missing value had been ``filled``.

    Args:
        statistics: of the values that are there.
        filled: float32 (k,), what a missing value is after the log.
    """
    value = filled.astype(np.float64)
    some = statistics.missing > 0
    constant = NumericStatistics(
        count=statistics.missing,
        missing=np.zeros_like(statistics.missing),
        raw_mean=statistics.raw_mean,
        mean=value,
        squares=np.zeros_like(value),
        low=np.where(some, value, np.inf),
        high=np.where(some, value, -np.inf),
    )
    return merge(statistics, constant)
