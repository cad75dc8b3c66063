from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from qtool.statistics.interval import Interval, student_interval, two_sided
from qtool.statistics.noninferiority import Decision, decide_interval, decide_share
from qtool.statistics.proportions import share_lower, share_upper

NAN = math.nan


def worsening(estimate: float, error: float, confidence: float = 0.95) -> Interval:
    return student_interval(estimate, error, two_sided(confidence))


def test_interval_of_a_normal_estimate() -> None:
    found = worsening(1.0, 2.0)
    assert found.high == pytest.approx(1 + 2 * norm.ppf(0.95))
    assert found.negated() == Interval(-1.0, -found.high, -found.low, 2.0)
    assert student_interval(1.0, 2.0, 0.95, 3).high == pytest.approx(1 + 2 * 3.182446, abs=1e-5)


def test_three_verdicts() -> None:
    z = norm.ppf(0.95)
    assert decide_interval(worsening(0.0, 0.0005), 0.001, 100) == Decision(
        "pass", pytest.approx(0.0005 * z)
    )
    failed = decide_interval(worsening(0.003, 0.001), 0.001, 100)
    assert failed == Decision("fail", pytest.approx(0.003 - 0.001 * z))
    # (1.645 * 0.001 / 0.0005)² = 10.8 times the rows; to two digits, upwards.
    assert decide_interval(worsening(0.0005, 0.001), 0.001, 1000).rows_needed == 11_000
    assert decide_interval(worsening(0.0015, 0.001), 0.001, 1000).rows_needed == 11_000


def test_at_the_margin() -> None:
    assert decide_interval(worsening(0.001, 0.0), 0.001, 100).verdict == "pass"
    assert decide_interval(worsening(0.001, 0.001), 0.001, 100).rows_needed is None
    assert decide_interval(worsening(0.001 + 1e-12, 0.001), 0.001, 100).rows_needed is None
    assert decide_interval(worsening(0.001, 0.001, 0.5), 0.001, 100).verdict == "pass"


def test_undefined_decides_nothing() -> None:
    for interval in (Interval(NAN, NAN, NAN, NAN), Interval(0.0, -math.inf, math.inf, 1.0)):
        found = decide_interval(interval, 0.001, 100)
        assert (found.verdict, found.rows_needed) == ("undecided", None)


@given(
    st.floats(-0.01, 0.01),
    st.floats(1e-6, 0.01),
    st.floats(0, 0.01),
    st.integers(10, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_the_rows_that_are_needed_decide(estimate, error, margin, rows) -> None:
    found = decide_interval(worsening(estimate, error), margin, rows)
    assert (found.rows_needed is None) or found.verdict == "undecided"
    if found.rows_needed:
        assert found.rows_needed >= rows
        more = error * math.sqrt(rows / (found.rows_needed * 1.0001))
        expected = "pass" if estimate < margin else "fail"
        assert decide_interval(worsening(estimate, more), margin, 1).verdict == expected


def test_a_model_at_the_margin_passes_five_in_a_hundred() -> None:
    random = np.random.default_rng(0)
    found = [decide_interval(worsening(x, 1.0), 0.0, 9).verdict for x in random.normal(0, 1, 4000)]
    assert 0.04 < np.mean([one == "pass" for one in found]) < 0.06
    assert 0.04 < np.mean([one == "fail" for one in found]) < 0.06


def test_share_by_hand() -> None:
    # Without a hit 1 - 0.05^(1/n) <= 0.001 from n = 2,995 on.
    assert decide_share(0, 100, 0.001, 0.95) == Decision(
        "undecided", pytest.approx(1 - 0.05**0.01), 3000
    )
    assert decide_share(0, 2995, 0.001, 0.95).verdict == "pass"
    assert decide_share(0, 2994, 0.001, 0.95).verdict == "undecided"
    assert decide_share(30, 100, 0.001, 0.95) == Decision("fail", share_lower(30, 100, 0.95))
    assert decide_share(1, 1000, 0.001, 0.95).rows_needed is None


@given(st.integers(0, 20), st.integers(200, 2000), st.sampled_from([0.001, 0.004, 0.02]))
@settings(max_examples=40, deadline=None)
def test_the_rows_that_a_share_needs_decide(hits, rows, margin) -> None:
    found = decide_share(hits, rows, margin, 0.95)
    if found.rows_needed is None:
        return
    more = hits * found.rows_needed / rows
    if hits / rows < margin:
        assert share_upper(more, found.rows_needed, 0.95) <= margin
        assert share_upper(more / 1.12, found.rows_needed / 1.12, 0.95) > margin
    else:
        assert share_lower(more, found.rows_needed, 0.95) > margin
