from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from scipy.stats import t as student

from qtool.statistics import delong as module
from qtool.statistics.delong import delong

LABELS = np.array([1, 1, 0, 0, 0], np.int8)
FIRST = np.array([0.9, 0.4, 0.5, 0.2, 0.1], np.float32)
SECOND = np.array([0.9, 0.5, 0.5, 0.2, 0.1], np.float32)


def simulated(rows: int, noise: float, seed: int, share: float = 0.3):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < share).astype(np.int8)
    first = (random.normal(size=rows) + 1.2 * labels).astype(np.float32)
    return labels, first, (first + noise * random.normal(size=rows)).astype(np.float32)


def pairs(labels, scores):
    above = np.sign(scores[labels == 1][:, None] - scores[labels == 0]).astype(np.float64)
    return (above + 1) / 2


def direct(labels, first, second):
    """Equations 4 to 6 of the paper, row by row, and their covariance."""
    changes = [pairs(labels, scores) for scores in (first, second)]
    v10 = np.cov([change.mean(1) for change in changes])
    v01 = np.cov([change.mean(0) for change in changes])
    s = v10 / changes[0].shape[0] + v01 / changes[0].shape[1]
    return [change.mean() for change in changes], s


def test_by_hand() -> None:
    found = delong(LABELS, FIRST, SECOND)
    # The second positive lies below, then level with, the first negative: half a pair of six.
    assert (found.first, found.second) == pytest.approx((5 / 6, 5.5 / 6))
    # Changes by positive (0, 1/6), by negative (1/4, 0, 0).
    of_positives, of_negatives = (1 / 72) / 2, (1 / 48) / 3
    assert found.variance == pytest.approx(of_positives + of_negatives)
    # One pair of six changes by a half: the variance of that mean over single pairs.
    assert found.unbiased_variance == pytest.approx((1 / 2 / 6) ** 2)
    freedom = found.variance**2 / (of_positives**2 / 1 + of_negatives**2 / 2)
    assert found.freedom == pytest.approx(freedom)
    interval = found.interval(0.95)
    assert interval.estimate == pytest.approx(1 / 12)
    assert interval.high - interval.estimate == pytest.approx(student.ppf(0.975, freedom) / 12)
    assert interval.error == pytest.approx(1 / 12)
    bounds = found.bounds(0.975)
    assert bounds.error == pytest.approx(math.sqrt(of_positives + of_negatives))
    width = student.ppf(0.975, freedom) * bounds.error
    assert (bounds.low, bounds.high) == pytest.approx((1 / 12 - width, 1 / 12 + width))


@pytest.mark.parametrize(("noise", "digits"), [(0.5, 7), (0.05, 1), (0.01, 7)])
def test_equals_the_structural_components(noise, digits) -> None:
    labels, first, second = simulated(400, noise, 1)
    first, second = np.round(first, digits), np.round(second, digits)
    found = delong(labels, first, second)
    aucs, s = direct(labels, first, second)
    assert [found.first, found.second] == pytest.approx(aucs, abs=1e-12)
    assert [found.first_variance, found.second_variance] == pytest.approx(np.diag(s), rel=1e-9)
    assert found.variance == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], rel=1e-9)


@pytest.mark.parametrize(("noise", "digits"), [(0.5, 7), (0.05, 1), (0.01, 7)])
def test_unbiased_equals_the_estimate_over_pairs(noise, digits) -> None:
    labels, first, second = simulated(300, noise, 2)
    first, second = np.round(first, digits), np.round(second, digits)
    change = pairs(labels, second) - pairs(labels, first)
    positives, negatives = change.shape
    # Products of pairs that share no row estimate the squared mean without bias (Bamber 1975).
    squares, total = (change**2).sum(), change.sum()
    by_positive, by_negative = (change.sum(1) ** 2).sum(), (change.sum(0) ** 2).sum()
    apart = total**2 - by_positive - by_negative + squares
    squared_mean = apart / (positives * (positives - 1) * negatives * (negatives - 1))
    found = delong(labels, first, second)
    assert found.unbiased_variance == pytest.approx(change.mean() ** 2 - squared_mean, rel=1e-9)


def test_auc_equals_mann_whitney_and_its_variance_is_near_hanleys() -> None:
    labels, first, second = simulated(5000, 0.1, 3)
    found = delong(labels, first, second)
    u = mannwhitneyu(first[labels == 1], first[labels == 0]).statistic
    positives = int(labels.sum())
    negatives = labels.size - positives
    assert found.first == pytest.approx(u / positives / negatives, abs=1e-12)
    a, q1, q2 = found.first, found.first / (2 - found.first), 2 * found.first**2
    q2 /= 1 + found.first
    # Hanley and McNeil 1982, Radiology 143(1), equation 2, for exponential scores.
    hanley = a * (1 - a) + (positives - 1) * (q1 - a * a) + (negatives - 1) * (q2 - a * a)
    assert found.first_variance == pytest.approx(hanley / (positives * negatives), rel=0.25)


@given(st.integers(0, 10_000), st.integers(0, 2))
@settings(max_examples=30, deadline=None)
def test_properties(seed, digits) -> None:
    labels, first, second = simulated(40, 0.3, seed)
    labels[:4] = (0, 1, 0, 1)
    first, second = np.round(first, digits), np.round(second, digits)
    found, back = delong(labels, first, second), delong(labels, second, first)
    assert back.difference == pytest.approx(-found.difference, abs=1e-12)
    assert back.unbiased_variance == pytest.approx(found.unbiased_variance, abs=1e-15)
    assert 0 <= found.unbiased_variance <= found.variance + 1e-15
    order = np.random.default_rng(seed).permutation(40)
    again = delong(labels[order], np.exp(first[order]), np.exp(second[order]))
    assert again.variance == pytest.approx(found.variance, abs=1e-12)
    mirrored = delong(1 - labels, -first, -second)
    assert mirrored.difference == pytest.approx(found.difference, abs=1e-12)


def test_equal_scores_have_no_variance() -> None:
    found = delong(LABELS, FIRST, FIRST.copy())
    assert (found.difference, found.variance, found.unbiased_variance) == (0, 0, 0)
    interval = found.interval(0.95)
    assert (interval.low, interval.high) == (0, 0)
    level = np.ones(5, np.float32)
    assert delong(LABELS, level, level).first == 0.5


def test_too_few_rows_of_a_class_are_not_defined() -> None:
    assert math.isnan(delong(np.zeros(3, np.int8), FIRST[:3], SECOND[:3]).difference)
    one = delong(LABELS[1:], FIRST[1:], SECOND[1:])
    assert one.difference == pytest.approx(1 / 6)
    assert math.isnan(one.variance)
    assert math.isnan(one.interval(0.95).high)


def test_many_rows_keep_the_published_variance(monkeypatch) -> None:
    labels, first, second = simulated(300, 0.01, 4)
    monkeypatch.setattr(module, "PAIR_ROWS", 299)
    found = delong(labels, first, second)
    assert found.unbiased_variance == found.variance


def test_published_variance_is_too_large_for_nearly_equal_scores_and_ours_is_not() -> None:
    found = [delong(*simulated(300, 0.005, seed)) for seed in range(300)]
    spread = np.var([one.difference for one in found], ddof=1)
    published = np.mean([one.variance for one in found])
    ours = np.mean([one.unbiased_variance for one in found])
    # The spread of 300 differences is known to ± 8 % (one standard error).
    assert ours == pytest.approx(spread, rel=0.25)
    assert published > 1.5 * ours
