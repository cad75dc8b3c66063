from __future__ import annotations

import dataclasses
from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.numerics.histogram import CHUNK, ZERO_BIN, Histogram, added, joined, merge

tables = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.just(3)),
    elements=st.floats(-1e4, 1e4, width=32)
    | st.just(0.0)
    | st.floats(-(2.0**-17), 2.0**-17, width=32)
    | st.sampled_from([1e-45, -1e-45, 1e-38, -(2.0**-126), 3e38, -3e38]),
)


def same(a: Histogram, b: Histogram) -> bool:
    fields = [field.name for field in dataclasses.fields(Histogram)]
    return all((getattr(a, name) == getattr(b, name)).all() for name in fields)


def test_worked_example():
    # Largest value 3 < 4 = 2**2, so bins are 2**(2 - 11) wide and 3 lies 1536 bins above zero; half
    # a bin on either side of zero is in bin 0.
    half = 2.0**-10
    histogram = Histogram.of(np.array([0, 3, -1, half, -half], np.float32))
    assert histogram.exponent.tolist() == [-9]
    filled = np.flatnonzero(histogram.counts[0])
    assert (filled - ZERO_BIN).tolist() == [-512, 0, 1536]
    assert histogram.counts[0, filled].tolist() == [1, 3, 1]
    assert (histogram.low[0], histogram.high[0]) == (-1, 3)
    edges = histogram.edges()[0]
    assert edges[ZERO_BIN : ZERO_BIN + 2].tolist() == [-(2.0**-9), 2.0**-9]


@given(tables, st.integers(1, 5), st.randoms(use_true_random=False))
def test_shards_in_any_order_give_the_same_bytes(x, shards, random):
    whole = Histogram.of(x, columns=True)
    parts = [Histogram.of(part, columns=True) for part in np.array_split(x, shards)]
    random.shuffle(parts)
    assert same(reduce(merge, parts, Histogram.empty(3)), whole)


@given(tables, tables)
def test_adding_is_merging(a, b):
    before = Histogram.of(a, columns=True)
    found = added(before, b, b.min(axis=0), b.max(axis=0))
    assert same(found, merge(before, Histogram.of(b, columns=True)))


@given(st.integers(0, 2**32 - 1))
def test_chunks_do_not_matter(seed):
    x = np.random.default_rng(seed).standard_normal(CHUNK + 1000).astype(np.float32)
    assert same(Histogram.of(x), merge(Histogram.of(x[:777]), Histogram.of(x[777:])))


@given(tables)
def test_every_value_is_counted_in_its_bin(x):
    histogram = Histogram.of(x)
    width = histogram.width()[0]
    numbers = np.trunc(x.astype(np.float64) / width).astype(int)  # exact: a power of two
    expected = np.bincount(numbers.ravel() + ZERO_BIN, minlength=histogram.counts.shape[1])
    assert (histogram.counts[0] == expected).all()


@given(tables)
def test_bins_are_as_narrow_as_stated(x):
    assert Histogram.of(x).width()[0] <= max(np.abs(x.astype(np.float64)).max() / 1024, 2.0**-126)


def test_a_batch_of_zeros_does_not_coarsen_small_values():
    small = Histogram.of(np.array([1e-6, 2e-6], np.float32))
    zeros = Histogram.of(np.zeros(4, np.float32))
    assert merge(small, zeros).exponent == small.exponent


@given(tables)
def test_mean_square_is_close_to_the_exact_one(x):
    exact = (x.astype(np.float64) ** 2).mean(axis=0)
    largest = np.abs(x.astype(np.float64)).max(axis=0)
    found = Histogram.of(x, columns=True).mean_square()
    assert (np.abs(found - exact) <= 2 * largest / 1024 * largest + 1e-12).all()


def test_no_rows_are_no_values():
    assert same(Histogram.of(np.zeros((0, 2), np.float32), columns=True), Histogram.empty(2))


@given(tables)
def test_joined_columns_are_the_whole_tensor(x):
    assert same(joined(Histogram.of(x, columns=True)), Histogram.of(x))
