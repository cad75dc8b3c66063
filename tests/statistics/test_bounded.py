from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest, norm

from qtool.statistics.bounded import drawn_shares, mean_interval


def test_one_kind_more_is_counted() -> None:
    # Mean of a Dirichlet: (counts + one) / (rows + 1).
    shares = drawn_shares(np.array([7, 0, 2]), 1, np.random.default_rng(0))
    np.testing.assert_allclose(shares.mean(axis=0), [0.7, 0.1, 0.2], atol=0.005)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize(("hits", "rows"), [(0, 50), (3, 40), (40, 40), (900, 1000)])
def test_of_zeros_and_ones_it_is_clopper_pearson(hits: int, rows: int) -> None:
    values = np.repeat([1.0, 0.0], [hits, rows - hits])
    expected = binomtest(hits, rows).proportion_ci(0.95, "exact")
    found = mean_interval(values, 0.95, 1)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.005)
    assert found.estimate == hits / rows


def test_of_many_rows_it_is_the_normal_interval() -> None:
    values = np.random.default_rng(2).beta(8, 2, 5_000).round(2)
    half = norm.ppf(0.95) * values.std() / np.sqrt(values.size)
    found = mean_interval(values, 0.9, 3)
    assert found.low == pytest.approx(values.mean() - half, abs=2e-4)
    assert found.high == pytest.approx(values.mean() + half, abs=2e-4)
    assert found.error == pytest.approx(half / norm.ppf(0.95))


def test_it_covers_where_the_bootstrap_does_not() -> None:
    # Of 100 rows about one loses a quarter: in a third of the samples none does, and the bootstrap
    # interval is the single value 1.
    generator = np.random.default_rng(4)
    truth = 1 - 0.01 * 0.25
    missed = bootstrap_missed = 0
    for seed in range(200):
        values = np.where(generator.random(100) < 0.01, 0.75, 1.0)
        found = mean_interval(values, 0.95, seed)
        missed += not found.low <= truth <= found.high
        bootstrap_missed += bool((values == 1).all())
    assert missed <= 10
    assert bootstrap_missed > 50


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1)))
def test_the_mean_lies_inside_and_order_does_not_matter(values: np.ndarray) -> None:
    found = mean_interval(values, 0.95, 5)
    assert 0 <= found.low <= values.mean() + 1e-12
    assert values.mean() - 1e-12 <= found.high <= 1
    again = mean_interval(values[::-1], 0.95, 5)
    assert (again.low, again.high) == (found.low, found.high)


def test_nothing_is_known_without_rows() -> None:
    found = mean_interval(np.empty(0), 0.95, 0)
    assert (found.low, found.high) == (0, 1)
    assert np.isnan(found.estimate)


def test_dependent_rows_count_as_fewer() -> None:
    values = np.repeat([1.0, 0.0], [30, 70])
    expected = binomtest(15, 50).proportion_ci(0.95, "exact")
    found = mean_interval(values, 0.95, 1, rows=50)
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.005)
    assert found.error == pytest.approx(np.sqrt(0.3 * 0.7 / 50))
