"""The fast search against the definition, written down bin by bin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from qtool.numerics.divergence import CLIPPING_POINTS, _measure, least_divergence
from qtool.numerics.histogram import BINS, ZERO_BIN, Histogram

CENTRES = np.mean([(edges := Histogram.empty(1).edges()[0])[:-1], edges[1:]], axis=0) * 2.0**126
"""Middles of the bins, in bin widths."""


def counts_of(bins: dict[int, int]) -> np.ndarray:
    counts = np.zeros(BINS, np.int64)
    for number, count in bins.items():
        counts[ZERO_BIN + number] = count
    return counts


def by_definition(counts, below, above, cells):
    """KL(P ‖ Q) of the range from -below to above bins."""
    inside = slice(ZERO_BIN - below + 1, ZERO_BIN + above)
    known = counts[inside].astype(float)
    p = known.copy()
    p[0] += counts[: inside.start].sum()
    p[-1] += counts[inside.stop :].sum()
    q = np.zeros_like(p)
    cell = np.floor((CENTRES[inside] + below) / ((below + above) / cells) + 1e-12).astype(int)
    for number in np.unique(cell):
        bins = (cell == number) & (p > 0)
        if bins.any():
            q[bins] = known[cell == number].sum() / bins.sum()
    return rel_entr(p / p.sum(), q / q.sum()).sum() if q.sum() else np.inf


def test_worked_example():
    # Two cells over four bins (bin 0, which holds no values, and bins 1, 2, 3; nothing below).
    # Range of 3 bins above: cells [-1, 1) and [1, 3): P = Q inside but bin 3 is cut off, its 2
    # values join bin 2: P = (6, 4) over bins (1, 2) of one cell, Q = (4, 4).
    counts = counts_of({1: 6, 2: 2, 3: 2})
    expected = 0.6 * np.log(0.6 / 0.5) + 0.4 * np.log(0.4 / 0.5)
    found = _measure(counts, 2, False)(np.array([1]), np.array([3]))
    assert found[0] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(-40, 60), st.integers(1, 1000), min_size=1, max_size=80),
    st.sampled_from([2, 7, 16]),
    st.integers(1, 70),
    st.integers(1, 70),
)
def test_the_measure_is_its_definition(bins, cells, below, above):
    counts = counts_of(bins)
    found = _measure(counts, cells, False)(np.array([below]), np.array([above]))[0]
    assert found == pytest.approx(by_definition(counts, below, above, cells), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(st.integers(1, 60), st.integers(1, 1000), min_size=1, max_size=60),
    st.sampled_from([4, 16]),
)
def test_one_sided_values_get_the_best_of_all_ranges(bins, cells):
    counts = counts_of(bins)
    below, above = least_divergence(counts, cells)
    last = max(bins) + 1
    assert below == 1
    assert last <= CLIPPING_POINTS  # so that every number of bins is tried
    tried = range(min(max(cells - 1, 1), last), last + 1)
    best = min(by_definition(counts, 1, end, cells) for end in tried)
    assert by_definition(counts, 1, above, cells) == pytest.approx(best, abs=1e-9)


def test_it_beats_the_whole_range_on_its_own_criterion():
    x = np.random.default_rng(0).standard_t(3, 50_000)
    numbers = np.trunc(x / np.abs(x).max() * 1500).astype(int)
    numbers = numbers[numbers != 0]
    counts = np.bincount(numbers + ZERO_BIN, minlength=BINS)
    chosen = least_divergence(counts, 256)
    whole = 1 - numbers.min(), 1 + numbers.max()
    assert by_definition(counts, *chosen, 256) < 0.9 * by_definition(counts, *whole, 256)


def test_zeros_take_no_part():
    few, many = (counts_of({0: zeros, 1: 6, 2: 2, 3: 2}) for zeros in (0, 500_000))
    assert least_divergence(few, 2) == least_divergence(many, 2)


def test_symmetric_ranges_have_one_end():
    generator = np.random.default_rng(0)
    values = np.clip(generator.laplace(0, 60, 100_000).astype(int), -1000, 1800)
    counts = np.bincount(values + ZERO_BIN, minlength=BINS)
    below, above = least_divergence(counts, 255, symmetric=True)
    assert below == above < 1000


def test_nothing_but_zeros_needs_bin_0_only():
    assert least_divergence(counts_of({0: 9}), 256) == (1, 1)
