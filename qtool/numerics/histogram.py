"""A histogram that merges exactly: the distribution of one activation, in constant memory.

The bins have width w = 2**e and mirror each other around zero: bin 0 holds -w < x < w, bin i > 0
holds i * w <= x < (i + 1) * w, bin -i the same of -x. So the bin of x is x / w rounded toward
zero. When a larger value arrives, e grows and neighbouring bins are added in pairs. Because
trunc(trunc(x / w) / 2) = trunc(x / 2w), the result is what one would get with the final width from
the start: ``merge`` is associative and commutative to the last bit, and neither batch size, row
order nor sharding can change a range that is derived from it.

Binning is exact in float32: multiplying by a power of two rounds only where the result falls below
float32's normal numbers, and that is bin 0 with or without rounding.

Error bound: e is the smallest exponent with max|x| < 2**(e + 11), so a bin is at most
max|x| / 1024 wide and any quantile or clipping point read from the histogram is within one such
width of the exact one. Exact minimum, maximum and number of values are kept, too.

Each statistic has a leading axis of ``columns``: 1 for a whole tensor, n for a tensor observed
column by column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HALF_BINS = 2048
"""Bins from zero to the largest value, bin 0 included."""
HALF_BITS = 11
"""log2 of it."""
BINS = 2 * HALF_BINS - 1
ZERO_BIN = HALF_BINS - 1
"""Position of bin 0."""
MIN_EXPONENT = -126
"""Smaller values are zeros to float32 quantization; 2**126 is a float32, and so is 2**-126."""
CHUNK = 32_768
"""Values binned at a time, so that what is computed on the way (448 KB) stays in the L2 cache."""


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of one tensor.

    Attributes:
        exponent: int32 (columns,), log2 of the bin width.
        counts: int64 (columns, BINS); position ``ZERO_BIN`` is bin 0.
        low: float32 (columns,), exact minimum; +inf before any value.
        high: float32 (columns,), exact maximum; -inf before any value.
    """

    exponent: NDArray[np.int32]
    counts: NDArray[np.int64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @staticmethod
    def empty(columns: int) -> Histogram:
        """Returns the statistics of no values: the identity of ``merge``."""
        return Histogram(
            exponent=np.full(columns, MIN_EXPONENT, np.int32),
            counts=np.zeros((columns, BINS), np.int64),
            low=np.full(columns, np.inf, np.float32),
            high=np.full(columns, -np.inf, np.float32),
        )

    @staticmethod
    def of(x: NDArray[np.float32], *, columns: bool = False) -> Histogram:
        """Returns the statistics of ``x``.

        Args:
            x: finite float32; shape (rows, columns) when ``columns``, else any.
            columns: one histogram per column instead of one for the tensor.
        """
        table = x if columns else x.reshape(-1, 1)
        if table.size == 0:
            return Histogram.empty(table.shape[1])
        empty = Histogram.empty(table.shape[1])
        return added(empty, table, table.min(axis=0), table.max(axis=0))

    @property
    def total(self) -> NDArray[np.int64]:
        """Number of values per column."""
        total: NDArray[np.int64] = self.counts.sum(axis=1)
        return total

    def width(self) -> NDArray[np.float64]:
        """Returns the width of the bins of each column; bin 0 has twice that."""
        return np.exp2(self.exponent.astype(np.float64))

    def edges(self) -> NDArray[np.float64]:
        """Returns the edges of the bins, ascending, shape (columns, BINS + 1)."""
        inner = np.arange(1, HALF_BINS + 1, dtype=np.float64)
        edges: NDArray[np.float64] = np.concatenate([-inner[::-1], inner]) * self.width()[:, None]
        return edges

    def centres(self) -> NDArray[np.float64]:
        """Returns the middle of each bin, between the exact extremes, shape (columns, BINS).

        Without values, 0 lies between the extremes.
        """
        edges = self.edges()
        middle = (edges[:, :-1] + edges[:, 1:]) / 2
        none = self.low > self.high
        low, high = np.where(none, 0, self.low), np.where(none, 0, self.high)
        return np.clip(middle, low[:, None], high[:, None])

    def mean_square(self) -> NDArray[np.float64]:
        """Returns the mean of x**2 per column, from bin centres."""
        inside = (self.counts * self.centres() ** 2).sum(axis=1)
        mean: NDArray[np.float64] = inside / np.maximum(self.total, 1)
        return mean


def added(
    histogram: Histogram,
    table: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> Histogram:
    """Returns ``merge(histogram, Histogram.of(table))``, faster.

    Args:
        histogram: of values seen before.
        table: finite float32 (rows, columns), not empty.
        low: float32 (columns,), the minimum of each column of ``table``.
        high: float32 (columns,), the maximum of each column of ``table``.
    """
    exponent = np.maximum(histogram.exponent, _exponent(np.maximum(-low, high)))
    per_width = np.ldexp(np.float32(1), -exponent)
    rows, columns = table.shape
    # Positions of all columns side by side, so that one count serves them all; one column needs no
    # wider integers than its bins.
    integer = np.int16 if columns == 1 else np.int64
    first = ZERO_BIN if columns == 1 else np.arange(columns) * BINS + ZERO_BIN
    counts = _coarsen(histogram, exponent).ravel()
    step = max(1, CHUNK // columns)
    for start in range(0, rows, step):
        piece = table[start : start + step]
        position = (piece * per_width).astype(integer)  # rounds toward zero
        position = np.add(position, first, out=position)
        counts = counts + np.bincount(position.ravel(), minlength=len(counts))
    return Histogram(
        exponent,
        counts.reshape(columns, BINS),
        np.minimum(histogram.low, low),
        np.maximum(histogram.high, high),
    )


def joined(histogram: Histogram) -> Histogram:
    """Returns the statistics of all columns as one: those of the whole tensor, to the last bit."""
    exponent = np.full_like(histogram.exponent, histogram.exponent.max())
    return Histogram(
        exponent=exponent[:1],
        counts=_coarsen(histogram, exponent).sum(axis=0, keepdims=True),
        low=histogram.low.min(keepdims=True),
        high=histogram.high.max(keepdims=True),
    )


def merge(a: Histogram, b: Histogram) -> Histogram:
    """Returns the statistics of the values of both."""
    exponent = np.maximum(a.exponent, b.exponent)
    return Histogram(
        exponent=exponent,
        counts=_coarsen(a, exponent) + _coarsen(b, exponent),
        low=np.minimum(a.low, b.low),
        high=np.maximum(a.high, b.high),
    )


def _exponent(largest: NDArray[np.float32]) -> NDArray[np.int32]:
    """Smallest e with largest < 2**e * HALF_BINS: frexp is largest = m * 2**p, m < 1.

    Not below ``MIN_EXPONENT``, which frexp gives for this power of two.
    """
    smallest = np.float32(2.0 ** (MIN_EXPONENT + HALF_BITS - 1))
    return np.frexp(np.maximum(largest, smallest))[1] - np.int32(HALF_BITS)


def _coarsen(histogram: Histogram, exponent: NDArray[np.int32]) -> NDArray[np.int64]:
    """Counts of ``histogram`` in bins of width 2**exponent."""
    shift = exponent - histogram.exponent
    if not shift.any():
        return histogram.counts
    counts = histogram.counts.copy()
    for column in np.flatnonzero(shift):
        filled = np.flatnonzero(counts[column])
        number = filled - ZERO_BIN
        target = np.sign(number) * (np.abs(number) >> min(int(shift[column]), 31)) + ZERO_BIN
        moved = np.zeros(BINS, np.int64)
        np.add.at(moved, target, counts[column, filled])
        counts[column] = moved
    return counts
