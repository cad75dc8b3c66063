from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from qtool.config.evaluation import ThresholdRate, ThresholdValue
from qtool.errors import DataError, ModelError
from qtool.evaluation.decisions import decision_change, operating_threshold, psi
from qtool.evaluation.sample import Sample
from qtool.statistics.proportions import share_upper

TENTHS = np.arange(1, 11, dtype=np.float32) / 10
HALF = np.array([0, 1] * 5, np.int8)

grid_scores = hnp.arrays(np.int8, 30, elements=st.integers(0, 64)).map(
    lambda codes: (codes / 64).astype(np.float32)
)


def rate(at: str, value: float) -> ThresholdRate:
    return ThresholdRate.model_validate({"at": at, "value": value})


def test_a_fixed_score_is_kept() -> None:
    section = ThresholdValue(at="score", value=0.7)
    assert operating_threshold(section, HALF, TENTHS) == (0.7, "fixed score")


def test_approval_rate_by_hand() -> None:
    threshold, rule = operating_threshold(rate("approval_rate", 0.7), HALF, TENTHS)
    assert threshold == pytest.approx(0.8)  # 0.1 .. 0.7 are approved
    assert rule == "approval_rate: smallest FP32 score where at least 70 % of 10 rows lie below"


def test_false_positive_rate_by_hand() -> None:
    # Negatives: 0.1 0.3 0.5 0.7 0.9. Two of the five may be flagged; 0.6 is the smallest score.
    threshold, rule = operating_threshold(rate("false_positive_rate", 0.4), HALF, TENTHS)
    assert threshold == pytest.approx(0.6)
    assert rule.endswith("at most 40 % of 5 negatives are flagged")


def test_ties_flag_fewer_rows() -> None:
    scores = np.array([0.1, 0.5, 0.5, 0.5, 0.9], np.float32)
    labels = np.array([0, 1, 0, 1, 0], np.int8)
    threshold, _ = operating_threshold(rate("approval_rate", 0.4), labels, scores)
    assert threshold == pytest.approx(0.9)


@pytest.mark.parametrize("value", [0.07, 0.29, 0.57, 0.58])
def test_a_rate_is_the_decimal_that_was_written(value: float) -> None:
    # In binary, 0.07 * 100 = 7.000000000000001: rounding that up would approve 8 rows.
    scores = np.arange(100, dtype=np.float32) / 100
    labels = (np.arange(100) % 2).astype(np.int8)
    threshold, _ = operating_threshold(rate("approval_rate", value), labels, scores)
    assert (scores < np.float32(threshold)).sum() == round(value * 100)


def test_a_rate_that_no_score_reaches_is_an_error() -> None:
    saturated = np.ones(10, np.float32)
    with pytest.raises(DataError, match="no row would ever be flagged"):
        operating_threshold(rate("approval_rate", 0.9), HALF, saturated)


@given(grid_scores, st.integers(1, 99))
def test_thresholds_are_the_smallest_that_hold(scores: NDArray, percent: int) -> None:
    labels = (np.arange(scores.size) % 3 == 0).astype(np.int8)
    negatives = scores[labels == 0]
    holds = {
        "approval_rate": lambda t: 100 * (scores < t).sum() >= percent * scores.size,
        "false_positive_rate": lambda t: 100 * (negatives >= t).sum() <= percent * negatives.size,
    }
    for at, hold in holds.items():
        candidates = [t for t in np.unique(scores) if hold(t)]
        if candidates:
            threshold, _ = operating_threshold(rate(at, percent / 100), labels, scores)
            assert threshold == candidates[0]
        else:
            with pytest.raises(DataError):
                operating_threshold(rate(at, percent / 100), labels, scores)


def test_decision_change_by_hand(make_scores) -> None:
    scores = make_scores([0, 0, 1, 1], [0.2, 0.49, 0.5, 0.9], [0.2, 0.5, 0.4, 0.95])
    change = decision_change(scores, 0.5, "fixed score")
    assert (change.rows, change.flagged_fp32, change.flagged_int8) == (4, 2, 2)
    assert (change.to_flagged, change.to_passed) == (1, 1)
    assert change.flip_share == 0.5
    assert change.largest_score_change == pytest.approx(0.1)


def test_the_threshold_is_compared_as_float32(make_scores) -> None:
    # float32(0.7) is below the double 0.7, yet a score of 0.7 reaches a threshold of 0.7.
    assert decision_change(make_scores([0, 1], [0.7, 0.1]), 0.7, "").flagged_fp32 == 1


@given(grid_scores, grid_scores, st.integers(0, 64))
def test_flips_are_symmetric(fp32: NDArray, int8: NDArray, code: int) -> None:
    labels, rows = np.zeros(30, np.int8), np.arange(30)
    there = decision_change(Sample(rows, labels, fp32, int8), code / 64, "")
    back = decision_change(Sample(rows, labels, int8, fp32), code / 64, "")
    assert (there.to_flagged, there.to_passed) == (back.to_passed, back.to_flagged)
    assert there.flagged_int8 - there.flagged_fp32 == there.to_flagged - there.to_passed
    assert there.flip_share <= there.flip_share_upper <= 1
    assert there.score_psi >= 0


def test_equal_scores_change_nothing(make_scores) -> None:
    change = decision_change(make_scores(HALF, TENTHS), 0.5, "")
    assert (change.flip_share, change.largest_score_change, change.score_psi) == (0, 0, 0)


def test_nan_is_a_model_error(make_scores) -> None:
    with pytest.raises(ModelError, match="FP32 model"):
        decision_change(make_scores([0, 1], [np.nan, 0.1]), 0.5, "")


def test_psi_by_hand() -> None:
    reference = np.arange(10, dtype=np.float32) / 10  # one row per decile
    other = reference.copy()
    other[0] = 0.15  # one row goes from the first to the second bin: 1 → 0.5 (floor), 1 → 2
    expected = (0.05 - 0.1) * math.log(0.05 / 0.1) + (0.2 - 0.1) * math.log(0.2 / 0.1)
    assert psi(reference, other) == pytest.approx(expected)


def test_psi_of_tied_scores_by_hand() -> None:
    reference = np.array([0.0] * 80 + [0.5] * 20, np.float32)  # two bins remain
    other = np.array([0.0] * 60 + [0.5] * 40, np.float32)
    expected = (0.6 - 0.8) * math.log(0.6 / 0.8) + (0.4 - 0.2) * math.log(0.4 / 0.2)
    assert psi(reference, other) == pytest.approx(expected)


def test_rows_of_one_customer_are_worth_fewer(make_scores) -> None:
    # 100 customers of 10 equal rows, of whom 4 flip.
    fp32 = np.repeat(np.where(np.arange(100) < 50, 0.2, 0.9), 10)
    int8 = np.repeat(np.where(np.arange(100) % 25 == 0, 0.5, fp32[::10]), 10)
    scores = make_scores(np.arange(1000) % 2, fp32, int8)
    customers = np.repeat(np.arange(100), 10)
    apart, together = (
        decision_change(scores, 0.5, "", clusters=clusters) for clusters in (None, customers)
    )
    assert (apart.effective_rows, apart.flip_share) == (1000, together.flip_share)
    assert together.effective_rows < 100
    assert together.flip_share_upper > share_upper(2, 100, 0.95)
    assert apart.flip_share_upper == share_upper(20, 1000, 0.95)


def test_mcnemar_of_clusters_turns_whole_customers(make_scores) -> None:
    # INT8 flags no row of two customers, whose 5 rows each are all positive: 10 rows become wrong.
    fp32, int8 = np.full(20, 0.9), np.repeat([0.1, 0.9], 10)
    scores = make_scores(np.ones(20), fp32, int8)
    assert decision_change(scores, 0.5, "").mcnemar_p == pytest.approx(2 / 2**10)
    clustered = decision_change(scores, 0.5, "", clusters=np.arange(20) // 5)
    assert clustered.mcnemar_p == pytest.approx(2 / 2**2)
