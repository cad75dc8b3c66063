from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, norm
from scipy.stats import t as student

from qtool.statistics.ks import FEWEST, ks_change


def simulated(rows: int, noise: float, seed: int, step: float = 0.0, share: float = 0.3):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < share).astype(np.int8)
    first = random.normal(size=rows) + 1.6 * labels
    second = first + noise * random.normal(size=rows)
    return labels, first, np.round(second / step) * step if step else second


def test_by_hand() -> None:
    # The best threshold flags the upper 6 of 12 rows. With those at 4, 5, 7 and 8 it makes five.
    # The lowest positive goes one place down: one threshold of the five no longer flags it, and
    # flags the highest negative instead.
    labels = np.repeat(np.array([0, 1], np.int8), 6)
    first = np.arange(12.0)
    second = first.copy()
    second[6] = 4.5
    found = ks_change(labels, first, second)
    assert (found.first, found.second) == (1, pytest.approx(5 / 6))
    assert found.nearby == pytest.approx(-1 / 5 / 6 - 1 / 5 / 6)
    few = ks_change(labels[4:8], first[4:8], second[4:8])
    assert few.first == 1
    assert math.isnan(few.nearby)
    assert math.isnan(few.variance)


def test_the_change_nearby_by_hand() -> None:
    # Of 1,000 rows the thresholds up to 25 rows from the best one are in reach. A positive goes 10
    # places down: 10 of 51 thresholds no longer flag it, and each row that it passes is flagged by
    # one more.
    labels = np.repeat(np.array([0, 1], np.int8), 500)
    first = np.arange(1000.0)
    second = first.copy()
    second[505] = 494.5
    found = ks_change(labels, first, second)
    reach = math.floor(0.25 * 1000 ** (2 / 3))
    thresholds = 2 * reach + 1
    moved = np.zeros(1000)
    moved[505], moved[495:505] = -10 / thresholds, 1 / thresholds
    assert found.first == 1
    assert found.second == pytest.approx(ks_2samp(second[500:], second[:500]).statistic)
    assert found.nearby == pytest.approx(moved[500:].mean() - moved[:500].mean())


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05]))
@settings(max_examples=25, deadline=None)
def test_properties(seed, step) -> None:
    labels, first, second = simulated(300, 0.05, seed, step)
    found = ks_change(labels, first, second)
    for value, scores in ((found.first, first), (found.second, second)):
        reference = ks_2samp(scores[labels == 1], scores[labels == 0])
        assert value == pytest.approx(reference.statistic, abs=1e-12)
    if math.isnan(found.variance):
        return
    interval = found.interval(0.95)
    assert interval.low <= interval.estimate == found.difference <= interval.high
    order = np.random.default_rng(seed).permutation(300)
    again = ks_change(labels[order], np.exp(first[order]), 3 * second[order])
    assert again.nearby == pytest.approx(found.nearby, abs=1e-12)
    assert again.variance == pytest.approx(found.variance, abs=1e-15)
    back = ks_change(labels, second, first)
    assert back.nearby == pytest.approx(-found.nearby, abs=1e-12)
    mirrored = ks_change(labels, -first, -second)
    assert mirrored.first == pytest.approx(found.first, abs=1e-12)


def test_interval_is_students_and_holds_the_difference() -> None:
    found = ks_change(*simulated(2000, 0.03, 1, 0.02))
    interval = found.interval(0.9)
    width = student.ppf(0.95, found.freedom) * math.sqrt(found.variance)
    assert interval.low == min(found.nearby - width, found.difference)
    assert interval.high == max(found.nearby + width, found.difference)
    assert interval.error == math.sqrt(found.variance)


def test_equal_ranks_have_no_variance() -> None:
    labels, first, _ = simulated(500, 0, 2)
    found = ks_change(labels, first, np.tanh(first))
    assert (found.difference, found.nearby, found.variance) == (0, 0, 0)


def test_the_order_of_rows_that_both_tie_does_not_matter() -> None:
    labels, first, second = simulated(3000, 0.05, 6)
    first, second = np.round(first, 2), np.round(second, 2)
    order = np.argsort(labels)
    expected = ks_change(labels, first, second)
    found = ks_change(labels[order], first[order], second[order])
    assert not math.isnan(expected.nearby)
    assert (found.first, found.second) == (expected.first, expected.second)
    assert found.nearby == pytest.approx(expected.nearby, abs=1e-12)
    assert found.variance == pytest.approx(expected.variance)


def test_one_class_and_few_thresholds_are_not_defined() -> None:
    labels, first, second = simulated(400, 0.1, 3)
    assert math.isnan(ks_change(np.zeros(400, np.int8), first, second).first)
    coarse = ks_change(labels, first, np.round(second))
    assert np.unique(np.round(second)).size > FEWEST
    assert math.isnan(coarse.nearby)
    assert not math.isnan(coarse.second)
    one = np.zeros(400, np.int8)
    one[7] = 1
    assert math.isnan(ks_change(one, first, second).variance)


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_it_covers_what_rounding_takes_from_the_sample_but_not_from_the_model(share) -> None:
    # Rounding to 0.01 changes KS by 1e-5; the sample's falls by more than the interval is wide.
    truth = 2 * norm.cdf(0.8 / math.sqrt(1 + 0.01**2)) - 2 * norm.cdf(0.8)
    covered = biased = 0
    for seed in range(200):
        found = ks_change(*simulated(1000, 0.01, seed, 0.01, share))
        interval = found.interval(0.95)
        covered += interval.low <= truth <= interval.high
        biased += found.difference < 0
    assert covered >= 180
    assert biased > 110
