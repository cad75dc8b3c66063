from __future__ import annotations

import dataclasses
from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.numerics.histogram import HALF_BINS, Histogram, joined, merge

tables = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.floats(-1e4, 1e4, width=32)
    | st.just(0.0)
    | st.floats(-(2.0**-17), 2.0**-17, width=32),
)


def same(a: Histogram, b: Histogram) -> bool:
    fields = [field.name for field in dataclasses.fields(Histogram)]
    return all((getattr(a, name) == getattr(b, name)).all() for name in fields)


def test_worked_example():
    # Largest value 3 < 4 = 2**2, so bins are 2**(2 - 10) wide and 3 lies 768 bins above zero.
    histogram = Histogram.of(np.array([0, 3, -1], np.float32))
    assert histogram.exponent.tolist() == [-8]
    assert np.flatnonzero(histogram.counts[0]).tolist() == [
        HALF_BINS - 256,
        HALF_BINS,
        HALF_BINS + 768,
    ]
    assert (histogram.low[0], histogram.high[0], histogram.zeros[0]) == (-1, 3, 1)


@given(tables, st.integers(1, 5), st.randoms(use_true_random=False))
def test_shards_in_any_order_give_the_same_bytes(x, shards, random):
    whole = Histogram.of(x, columns=True)
    parts = [Histogram.of(part, columns=True) for part in np.array_split(x, shards)]
    random.shuffle(parts)
    assert same(reduce(merge, parts, Histogram.empty(3)), whole)


@given(tables)
def test_every_value_is_counted_within_the_stated_width(x):
    histogram = Histogram.of(x)
    assert histogram.total[0] == x.size
    left, right = histogram.edges()
    filled = histogram.counts[0] > 0
    assert left[0][filled].min() <= x.min()
    assert right[0][filled].max() > x.max()
    assert 2.0 ** histogram.exponent[0] <= max(np.abs(x).max() / 512, 2.0**-130)


def test_a_batch_of_zeros_does_not_coarsen_small_values():
    small = Histogram.of(np.array([1e-6, 2e-6], np.float32))
    zeros = Histogram.of(np.zeros(4, np.float32))
    assert merge(small, zeros).exponent == small.exponent


@given(tables)
def test_mean_square_is_close_to_the_exact_one(x):
    exact = (x.astype(np.float64) ** 2).mean(axis=0)
    width = np.abs(x).max(axis=0) / 512
    found = Histogram.of(x, columns=True).mean_square()
    assert (np.abs(found - exact) <= 2 * width * np.abs(x).max(axis=0) + 1e-12).all()


def test_no_rows_are_no_values():
    assert same(Histogram.of(np.zeros((0, 2), np.float32), columns=True), Histogram.empty(2))


@given(tables)
def test_joined_columns_are_the_whole_tensor(x):
    assert same(joined(Histogram.of(x, columns=True)), Histogram.of(x))
