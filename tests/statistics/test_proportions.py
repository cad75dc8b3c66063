from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, norm

from qtool.statistics.proportions import (
    mcnemar,
    paired_shares,
    share_interval,
    share_lower,
    share_upper,
)

counts = st.integers(1, 500).flatmap(lambda rows: st.tuples(st.integers(0, rows), st.just(rows)))


def test_share_bounds_by_hand() -> None:
    # (1 - p)^100 = 0.05
    assert share_upper(0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert share_lower(100, 100, 0.95) == pytest.approx(0.05 ** (1 / 100))
    assert (share_lower(0, 100, 0.95), share_upper(100, 100, 0.95)) == (0, 1)


def test_share_interval_equals_statsmodels() -> None:
    # statsmodels 0.15: proportion_confint(3, 1000, alpha=0.1, method="beta")
    found = share_interval(3, 1000, 0.9)
    assert (found.low, found.high) == pytest.approx(
        (0.0008181753982218001, 0.00773524471847946), rel=1e-9
    )


@given(counts, st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=40, deadline=None)
def test_share_bounds_equal_scipy(count, confidence) -> None:
    hits, rows = count
    both = binomtest(hits, rows).proportion_ci(confidence, method="exact")
    found = share_interval(hits, rows, confidence)
    assert (found.low, found.high) == pytest.approx((both.low, both.high), abs=1e-9)
    assert found.low <= found.estimate == hits / rows <= found.high
    upper = binomtest(hits, rows, alternative="less").proportion_ci(confidence).high
    lower = binomtest(hits, rows, alternative="greater").proportion_ci(confidence).low
    assert share_upper(hits, rows, confidence) == pytest.approx(upper, abs=1e-9)
    assert share_lower(hits, rows, confidence) == pytest.approx(lower, abs=1e-9)


def test_upper_bound_covers_at_every_share() -> None:
    rows = 60
    uppers = np.array([share_upper(hits, rows, 0.95) for hits in range(rows + 1)])
    for share in (0.001, 0.01, 0.1, 0.5):
        assert binom.pmf(np.arange(rows + 1), rows, share)[uppers >= share].sum() >= 0.95


def test_mcnemar_by_hand_and_equals_statsmodels() -> None:
    # Of 2^8 ways, 1 + 8 have none or one on one side.
    assert mcnemar(1, 7) == pytest.approx(2 * 9 / 256)
    # statsmodels 0.15: mcnemar([[0, 150], [86, 0]], exact=True)
    assert mcnemar(150, 86) == pytest.approx(3.7159361395713866e-05, rel=1e-9)
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_symmetric(first, second) -> None:
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))


def test_paired_shares_by_hand() -> None:
    found = paired_shares(7, 1, 21, 0.95)
    assert found.estimate == pytest.approx(-6 / 21)
    assert found.error == pytest.approx(np.sqrt(8 - 36 / 21) / 21)


def test_paired_shares_without_a_difference() -> None:
    z2 = norm.ppf(0.975) ** 2
    found = paired_shares(0, 0, 100, 0.95)
    assert (found.low, found.high) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)))
    assert (found.estimate, found.error) == (0, 0)


def test_paired_shares_at_the_edges() -> None:
    z2 = norm.ppf(0.975) ** 2
    found = paired_shares(0, 10, 10, 0.95)
    assert (found.low, found.high) == pytest.approx(((10 - z2) / (10 + z2), 1))
    nothing = paired_shares(3, 5, 40, 0.0)
    assert nothing.low == nothing.estimate == nothing.high == pytest.approx(0.05)


def score(first_only: int, second_only: int, rows: int, difference: float) -> float:
    """The score statistic, with the likelihood maximised by search."""
    low, high = max(0.0, -difference), (1 - difference) / 2

    def unlikely(share: float) -> float:
        terms = (
            (first_only, share),
            (second_only, share + difference),
            (rows - first_only - second_only, 1 - 2 * share - difference),
        )
        return -sum(count * np.log(max(p, 1e-300)) for count, p in terms if count)

    share = minimize_scalar(unlikely, bounds=(low, high), options={"xatol": 1e-12}).x
    variance = rows * (2 * share + difference - difference**2)
    return (second_only - first_only - rows * difference) / np.sqrt(variance)


@pytest.mark.parametrize(
    ("first", "second", "rows"), [(7, 1, 21), (12, 2, 50), (1, 30, 200), (5, 5, 1000)]
)
def test_paired_shares_end_where_the_score_test_rejects(first, second, rows) -> None:
    found = paired_shares(first, second, rows, 0.95)
    z = norm.ppf(0.975)
    assert score(first, second, rows, found.low) == pytest.approx(z, abs=1e-4)
    assert score(first, second, rows, found.high) == pytest.approx(-z, abs=1e-4)
    other = paired_shares(second, first, rows, 0.95).negated()
    assert (other.low, other.high) == pytest.approx((found.low, found.high))
