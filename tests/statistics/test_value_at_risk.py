from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chi2, chi2_contingency, power_divergence

from qtool.statistics.value_at_risk import christoffersen, christoffersen_independence, kupiec

NEAR_ONE = 1e-5  # the p-value falls with the square root of a statistic that is 0 but for rounding


def series(hits: int, periods: int):
    return np.arange(periods) < hits


def test_kupiec_by_hand() -> None:
    # Twice 20 log(20 / 12.6) + 232 log(232 / 239.4): 12.6 of 252 periods were expected.
    found = kupiec(series(20, 252), 0.05)
    by_hand = 2 * (20 * math.log(20 / 12.6) + 232 * math.log(232 / 239.4))
    assert found.statistic == pytest.approx(by_hand)
    assert found.p_value == pytest.approx(chi2.sf(found.statistic, 1))
    assert kupiec(series(0, 100), 0.01).statistic == pytest.approx(-200 * math.log(0.99))
    assert kupiec(series(100, 100), 0.01).statistic == pytest.approx(-200 * math.log(0.01))
    assert kupiec(series(5, 100), 0.05).p_value == 1


@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.05, 0.3]))
@settings(max_examples=40, deadline=None)
def test_kupiec_equals_the_likelihood_ratio_of_scipy(periods, data, expected) -> None:
    hits = data.draw(st.integers(0, periods))
    observed, by_model = [hits, periods - hits], [expected * periods, (1 - expected) * periods]
    reference = power_divergence(observed, by_model, lambda_="log-likelihood")
    found = kupiec(series(hits, periods), expected)
    assert found.statistic == pytest.approx(reference.statistic, abs=1e-9)
    assert found.p_value == pytest.approx(reference.pvalue, abs=NEAR_ONE)


def test_independence_by_hand() -> None:
    # 14 exceedances after none (of 232), 6 after one (of 20).
    runs = [[0] * 206, *([1] for _ in range(9)), *([1, 1] for _ in range(4)), [1, 1, 1]]
    found = np.concatenate([[*part, 0] for part in runs] + [[0] * 12])
    before, after = found[:-1], found[1:]
    table = [[np.sum((before == i) & (after == j)) for j in (0, 1)] for i in (0, 1)]
    assert table == [[218, 14], [14, 6]]
    independence = christoffersen_independence(found)
    # Twice Σ observed log(observed / expected), where rows times columns over 252 are expected.
    expected = np.outer([232, 20], [232, 20]) / 252
    by_hand = 2 * float((np.array(table) * np.log(np.array(table) / expected)).sum())
    assert independence.statistic == pytest.approx(by_hand)
    both = christoffersen(found, 0.05)
    assert both.statistic == independence.statistic + kupiec(found, 0.05).statistic
    assert both.p_value == pytest.approx(math.exp(-both.statistic / 2))


@given(hnp.arrays(np.int8, st.integers(2, 80), elements=st.integers(0, 1)))
@settings(max_examples=60, deadline=None)
def test_independence_equals_the_table_of_transitions(exceedances) -> None:
    before, after = exceedances[:-1], exceedances[1:]
    table = np.array([[np.sum((before == i) & (after == j)) for j in (0, 1)] for i in (0, 1)])
    found = christoffersen_independence(exceedances)
    if table.sum(0).all() and table.sum(1).all():
        reference = chi2_contingency(table, correction=False, lambda_="log-likelihood")
        assert found.statistic == pytest.approx(reference.statistic, abs=1e-9)
        assert found.p_value == pytest.approx(reference.pvalue, abs=NEAR_ONE)
    else:
        assert found.statistic == pytest.approx(0, abs=1e-12)
        assert found.p_value == pytest.approx(1, abs=NEAR_ONE)


def test_clustered_exceedances_are_found_and_none_say_nothing() -> None:
    together, apart = np.zeros(250, bool), np.zeros(250, bool)
    together[100:105], apart[::50] = True, True
    assert christoffersen_independence(together).p_value < 1e-4
    assert christoffersen_independence(apart).p_value > 0.5
    assert christoffersen(np.zeros(250, bool), 0.01).statistic == pytest.approx(
        -500 * math.log(0.99)
    )


def test_kupiec_rejects_as_often_as_stated() -> None:
    random = np.random.default_rng(0)
    rejected = [kupiec(random.random(2000) < 0.05, 0.05).p_value < 0.05 for _ in range(2000)]
    assert 0.03 < np.mean(rejected) < 0.07
