from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.data.value_counts import ValueCounts, bin_counts, count_values, merge
from qtool.evaluation.decisions import psi as psi_of_scores
from qtool.numerics.psi import psi

FLOATS = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.floats(-(2**99), 2**99, width=32, allow_subnormal=False),
)


def same(a: ValueCounts, b: ValueCounts) -> bool:
    arrays = np.array_equal(a.keys, b.keys) and np.array_equal(a.counts, b.counts)
    return arrays and (a.shift, a.low, a.high) == (b.shift, b.low, b.high)


def test_by_hand() -> None:
    found = count_values(np.array([5, 3, 5, -2]), limit=3)
    assert (found.keys.tolist(), found.counts.tolist()) == ([-2, 3, 5], [1, 1, 2])
    assert (found.shift, found.low, found.high, found.total) == (0, -2, 5, 4)
    # Four values do not fit three keys: halved they are -1, 1, 2, 3; halved again -1, 0, 1, 1.
    found = merge(found, count_values(np.array([6]), limit=3))
    assert (found.keys.tolist(), found.counts.tolist()) == ([-1, 0, 1], [1, 1, 3])
    assert found.shift == 2


def test_keys_of_floats_keep_their_order() -> None:
    values = np.array([-np.float32(3e38), -2, -1e-40, -0.0, 0, 1e-40, 1, 3e38], np.float32)
    found = count_values(values, limit=100)
    assert (np.diff(found.keys) > 0).all()
    assert found.counts.tolist() == [1, 1, 1, 2, 1, 1, 1]


@given(FLOATS, st.integers(2, 12), st.integers(1, 60), st.randoms())
def test_order_and_pieces_do_not_matter(values, limit, size, random) -> None:
    pieces = [values[start : start + size] for start in range(0, len(values), size)]
    random.shuffle(pieces)
    found = count_values(pieces[0], limit)
    for piece in pieces[1:]:
        found = merge(found, count_values(piece, limit))
    whole = count_values(values, limit)
    assert same(found, whole)
    assert len(found.keys) <= limit
    assert found.total == len(values)


@given(FLOATS, FLOATS)
def test_psi_of_exact_counts_is_that_of_the_values(reference, other) -> None:
    counts = count_values(reference, 1000), count_values(other, 1000)
    found = psi(*bin_counts(counts[0], counts[1:], 10))
    assert found == pytest.approx(psi_of_scores(reference, other), abs=1e-12)


@pytest.mark.parametrize("draw", ["lognormal", "standard_normal", "standard_cauchy"])
def test_psi_of_many_values_is_near_that_of_the_values(draw) -> None:
    random = np.random.default_rng(0)
    reference, other = (getattr(random, draw)(size=n).astype(np.float32) for n in (50_000, 9_000))
    other *= np.float32(1.4)
    counts = count_values(reference, 2048), count_values(other, 2048)
    found = psi(*bin_counts(counts[0], counts[1:], 10))
    assert found == pytest.approx(psi_of_scores(reference, other), rel=0.03)


def test_counts_of_different_resolution_share_their_bins() -> None:
    fine, coarse = count_values(np.arange(10), 100), count_values(np.arange(10), 5)
    assert coarse.shift == 1
    for a, b in ((fine, coarse), (coarse, fine)):
        first, second = bin_counts(a, [b], 5)
        assert first.tolist() == second.tolist() == [2, 2, 2, 2, 2]


def test_a_reference_without_values_is_one_bin():
    empty, other = (count_values(np.full(n, 1, np.float32), 64) for n in (0, 3))
    assert [part.tolist() for part in bin_counts(empty, [other], 10)] == [[0], [3]]
