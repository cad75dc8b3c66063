"""How often each value of one column occurs: merges exactly, in bounded memory.

Every value becomes an integer key that keeps the order of the values: an integer is its own key,
a float32 the integer of its bits. While a column has at most ``limit`` different values the counts
are exact. Beyond, keys lose their lowest bits until no more are left than the limit, so that values
share a key with their neighbours: floats keep the same relative resolution everywhere.

Keys are shifted, and floor(floor(k / 2) / 2) = floor(k / 4); the shift is the smallest that
leaves ``limit`` keys, and more values never need a smaller one. So ``merge`` is associative and
commutative to the last bit, and batch sizes and order cannot change a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ValueCounts:
    """Counts of the values of one column.

    Attributes:
        keys: int64 (n,), sorted: the keys of the values, shifted right by ``shift`` bits.
        counts: int64 (n,), values with each key.
        shift: lost bits; 0 when the counts are exact.
        low: smallest value; +inf before any.
        high: largest value; -inf before any.
        limit: most keys.
    """

    keys: Keys
    counts: NDArray[np.int64]
    shift: int
    low: float
    high: float
    limit: int

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())


def count_values(values: NDArray[Any], limit: int) -> ValueCounts:
    """Returns the counts of finite float32, integer or bool values of any shape."""
    keys, counts = np.unique(_keys(values), return_counts=True)
    low, high = (values.min(), values.max()) if values.size else (np.inf, -np.inf)
    return _within(ValueCounts(keys, counts, 0, float(low), float(high), limit))


def merge(a: ValueCounts, b: ValueCounts) -> ValueCounts:
    """Returns the counts of the values of both."""
    shift = max(a.shift, b.shift)
    keys = np.concatenate([each.keys >> (shift - each.shift) for each in (a, b)])
    counts = np.concatenate([a.counts, b.counts])
    low, high = min(a.low, b.low), max(a.high, b.high)
    return _within(ValueCounts(*_summed(keys, counts), shift, low, high, a.limit))


def coarser(found: ValueCounts, shift: int) -> ValueCounts:
    """Returns the same counts with keys of at least ``shift`` lost bits."""
    lost = max(shift - found.shift, 0)
    keys, counts = _summed(found.keys >> lost, found.counts)
    return ValueCounts(keys, counts, found.shift + lost, found.low, found.high, found.limit)


def bin_counts(
    reference: ValueCounts, others: Sequence[ValueCounts], bins: int
) -> list[NDArray[np.int64]]:
    """Returns the values of the reference and of the others per bin, each (bins,) or fewer.

    The bins hold equally many values of the reference: edge k of 1..bins-1 is the sorted value at
    index floor(k * n / bins); equal edges are merged, so that one value is never divided. A bin
    holds edge <= value < next edge; the outer bins are open. All are compared by the keys of the
    coarsest.
    """
    shift = max(each.shift for each in (reference, *others))
    reference = coarser(reference, shift)
    ranks = np.arange(1, bins) * reference.total // bins
    places = np.searchsorted(np.cumsum(reference.counts), ranks, side="right")
    # Without any value of the reference all others fall into one bin.
    edges = np.unique(reference.keys[places]) if reference.total else np.empty(0, np.int64)
    counted = []
    for found in (reference, *(coarser(other, shift) for other in others)):
        bin_of = np.searchsorted(edges, found.keys, side="right")
        sums = np.bincount(bin_of, weights=found.counts, minlength=len(edges) + 1)
        counted.append(sums.astype(np.int64))
    return counted


def _keys(values: NDArray[Any]) -> Keys:
    flat = values.ravel()
    if not np.issubdtype(flat.dtype, np.floating):
        return flat.astype(np.int64)
    bits = (flat.astype(np.float32) + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    # Negative floats have bits that fall where the values rise.
    return np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)


def _within(found: ValueCounts) -> ValueCounts:
    keys, counts, shift = found.keys, found.counts, found.shift
    while len(keys) > found.limit:
        keys, counts = _summed(keys >> 1, counts)
        shift += 1
    return ValueCounts(keys, counts, shift, found.low, found.high, found.limit)


def _summed(keys: Keys, counts: NDArray[np.int64]) -> tuple[Keys, NDArray[np.int64]]:
    unique, places = np.unique(keys, return_inverse=True)
    # float64 weights are exact up to 2**53 values.
    summed = np.bincount(places, weights=counts, minlength=len(unique))
    return unique, summed.astype(np.int64)
