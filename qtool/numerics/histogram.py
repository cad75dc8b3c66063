"""A histogram that merges exactly: the statistics of one activation, in constant memory.

The bins have width 2**e and start at multiples of it, so bin i holds i * 2**e <= x < (i + 1) *
2**e. When a larger value arrives, e grows and neighbouring bins are added in pairs. Because
floor(floor(x / w) / 2) = floor(x / 2w), the result is what one would get with the final width from
the start: ``merge`` is associative and commutative to the last bit, and neither batch size, row
order nor sharding can change a range that is derived from it.

Error bound: e is the smallest exponent with max|x| < 2**(e + 10), so a bin is at most max|x| / 512
wide and any quantile or clipping point read from the histogram is within one such width of the
exact one. Exact minimum, maximum, number of zeros and number of values are kept beside the bins.
Dividing by a power of two is exact in float64, so binning itself adds no error.

Each statistic has a leading axis of ``columns``: 1 for a whole tensor, n for a tensor observed
column by column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF_BINS = 1024
"""Bins on each side of zero."""

MIN_EXPONENT = -130
"""Smaller values are zeros to float32 quantization; keeps 2**e inside float32."""


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of one tensor.

    Attributes:
        exponent: int32 (columns,), log2 of the bin width.
        counts: int64 (columns, 2 * HALF_BINS); bin HALF_BINS starts at zero.
        low: float32 (columns,), exact minimum; +inf before any value.
        high: float32 (columns,), exact maximum; -inf before any value.
        zeros: int64 (columns,), values that are exactly zero.
    """

    exponent: NDArray[np.int32]
    counts: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    zeros: NDArray[np.int64]

    @staticmethod
    def empty(columns: int) -> Histogram:
        """Returns the statistics of no values: the identity of ``merge``."""
        return Histogram(
            exponent=np.full(columns, MIN_EXPONENT, np.int32),
            counts=np.zeros((columns, 2 * HALF_BINS), np.int64),
            low=np.full(columns, np.inf, np.float32),
            high=np.full(columns, -np.inf, np.float32),
            zeros=np.zeros(columns, np.int64),
        )

    @staticmethod
    def of(x: NDArray[np.float32], *, columns: bool = False) -> Histogram:
        """Returns the statistics of ``x``.

        Args:
            x: finite float32; shape (rows, columns) when ``columns``, else any.
            columns: one histogram per column instead of one for the tensor.
        """
        table = x if columns else x.reshape(-1, 1)
        if table.shape[0] == 0:
            return Histogram.empty(table.shape[1])
        low, high = table.min(axis=0), table.max(axis=0)
        exponent = _exponent(np.maximum(-low, high))
        width = np.exp2(exponent.astype(np.float64))
        # In float64, because a float32 quotient may underflow to zero and move a negative value up
        # a bin.
        bins = np.floor(np.divide(table, width, dtype=np.float64)).astype(np.int32) + HALF_BINS
        width_all = table.shape[1]
        flat = bins + np.arange(width_all, dtype=np.int32) * (2 * HALF_BINS)
        counts = np.bincount(flat.ravel(), minlength=width_all * 2 * HALF_BINS)
        return Histogram(
            exponent=exponent,
            counts=counts.reshape(width_all, 2 * HALF_BINS).astype(np.int64),
            low=low,
            high=high,
            zeros=(table == 0).sum(axis=0).astype(np.int64),
        )

    @property
    def total(self) -> NDArray[np.int64]:
        """Number of values per column."""
        total: NDArray[np.int64] = self.counts.sum(axis=1)
        return total

    def edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns the lower and upper edge of every bin, shape (columns, 2 * HALF_BINS)."""
        width = np.exp2(self.exponent.astype(np.float64))[:, None]
        left = np.arange(-HALF_BINS, HALF_BINS, dtype=np.float64)[None, :] * width
        return left, left + width

    def mean_square(self) -> NDArray[np.float64]:
        """Returns the mean of x**2 per column, from bin centres."""
        left, right = self.edges()
        centre = np.clip((left + right) / 2, self.low[:, None], self.high[:, None])
        inside = self.counts * centre**2
        # Exact zeros sit in the first bin at or above zero and have no square.
        inside[:, HALF_BINS] -= self.zeros * centre[:, HALF_BINS] ** 2
        mean: NDArray[np.float64] = inside.sum(axis=1) / np.maximum(self.total, 1)
        return mean


def joined(histogram: Histogram) -> Histogram:
    """Returns the statistics of all columns as one: those of the whole tensor, to the last bit."""
    exponent = np.full_like(histogram.exponent, histogram.exponent.max())
    return Histogram(
        exponent=exponent[:1],
        counts=_coarsen(histogram, exponent).sum(axis=0, keepdims=True),
        low=histogram.low.min(keepdims=True),
        high=histogram.high.max(keepdims=True),
        zeros=histogram.zeros.sum(keepdims=True),
    )


def merge(a: Histogram, b: Histogram) -> Histogram:
    """Returns the statistics of the values of both."""
    exponent = np.maximum(a.exponent, b.exponent)
    return Histogram(
        exponent=exponent,
        counts=_coarsen(a, exponent) + _coarsen(b, exponent),
        low=np.minimum(a.low, b.low),
        high=np.maximum(a.high, b.high),
        zeros=a.zeros + b.zeros,
    )


def _exponent(largest: NDArray[np.float32]) -> NDArray[np.int32]:
    """Smallest e with largest < 2**e * HALF_BINS: frexp is largest = m * 2**p, m < 1."""
    _, power = np.frexp(largest)
    half_bits = HALF_BINS.bit_length() - 1
    exponent = np.where(largest > 0, power - half_bits, MIN_EXPONENT)  # frexp(0) gives power 0
    return np.maximum(exponent, MIN_EXPONENT).astype(np.int32)


def _coarsen(histogram: Histogram, exponent: NDArray[np.int32]) -> NDArray[np.int64]:
    """Counts of ``histogram`` in bins of width 2**exponent."""
    shift = exponent - histogram.exponent
    counts = histogram.counts.copy()
    for column in np.flatnonzero(shift):
        filled = np.flatnonzero(counts[column])
        # Arithmetic shift is floor division, also for the bins below zero.
        target = ((filled - HALF_BINS) >> min(int(shift[column]), 31)) + HALF_BINS
        moved = np.zeros(2 * HALF_BINS, np.int64)
        np.add.at(moved, target, counts[column, filled])
        counts[column] = moved
    return counts
