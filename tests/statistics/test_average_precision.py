from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from sklearn.metrics import average_precision_score

from qtool.statistics.average_precision import average_precision_influence
from qtool.statistics.bootstrap import Draws, paired_bootstrap, pairs_once_interval
from qtool.statistics.delong import delong


def simulated(rows: int, noise: float, seed: int, share: float = 0.3):
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < share).astype(np.int8)
    first = random.normal(size=rows) + 1.6 * labels
    return labels, first, first + noise * random.normal(size=rows)


def test_by_hand() -> None:
    # Positive, negative, positive from the top: precisions 1 and 2 / 3.
    found = average_precision_influence(np.array([1, 0, 1]), np.array([3.0, 2.0, 1.0]))
    # The first: its precision 1, f / (t + f)² = 0 and 1 / 9 of those at or below; less 5 / 6.
    assert found == pytest.approx(
        [(1 + 1 / 9 - 5 / 6) / 2, -2 / 9 / 2, (2 / 3 + 1 / 9 - 5 / 6) / 2]
    )


@given(st.integers(0, 10_000), st.integers(0, 2))
@settings(max_examples=25, deadline=None)
def test_it_is_the_derivative_of_average_precision(seed, digits) -> None:
    labels, scores, _ = simulated(40, 0, seed)
    labels[:2] = (0, 1)
    scores = np.round(scores, digits)
    found = average_precision_influence(labels, scores)
    for row in (0, 1, 17):
        weights = np.ones(40)
        values = []
        for weight in (1 - 1e-5, 1 + 1e-5):
            weights[row] = weight
            values.append(average_precision_score(labels, scores, sample_weight=weights))
        assert found[row] == pytest.approx((values[1] - values[0]) / 2e-5, abs=1e-6)
    # Twice of every row changes nothing.
    assert found.sum() == pytest.approx(0, abs=1e-12)


def auc_of(labels, scores):
    def statistic(weights):
        weights = np.ones(len(labels)) if weights is None else weights
        positive = labels == 1
        above = np.sign(scores[positive][:, None] - scores[~positive]) / 2 + 0.5
        of_pairs = weights[positive][:, None] * weights[~positive]
        return float((above * of_pairs).sum() / of_pairs.sum())

    return statistic


def test_pairs_are_counted_once_as_delong_does() -> None:
    labels, first, second = simulated(200, 0.01, 5)
    found = delong(labels, first, second)
    pairs = {"auc": (auc_of(labels, first), auc_of(labels, second))}
    drawn = paired_bootstrap(pairs, Draws(200, labels, resamples=2000))["auc"]
    positive = labels == 1
    change = np.sign(second[positive][:, None] - second[~positive])
    change = (change - np.sign(first[positive][:, None] - first[~positive])) / 2
    influence = np.empty(200)
    influence[positive] = change.mean(axis=1) / positive.sum()
    influence[~positive] = change.mean(axis=0) / (~positive).sum()
    interval = pairs_once_interval(found.difference, drawn, influence, labels, 0.95)
    once = found.variance - found.unbiased_variance
    assert once > 0.3 * found.variance  # so that counting matters
    assert drawn.var(ddof=1) == pytest.approx(found.unbiased_variance + 2 * once, rel=0.12)
    assert interval.error**2 == pytest.approx(found.unbiased_variance, rel=0.25)


def test_the_freedom_is_that_of_the_rows_that_pull() -> None:
    # Four rows of each of two strata pull by 1 and -1: eight equal squares have 16 degrees.
    influence = np.tile([1.0, -1.0], 4)
    strata = np.repeat([0, 1], 4)
    by_rows = 2 * 4 * 4 / 3
    differences = np.array([-1.0, 1.0]) * np.sqrt(by_rows / 2)  # of the same variance
    found = pairs_once_interval(0.5, differences, influence, strata, 0.95, scale=0.5)
    assert found.error == pytest.approx(0.5 * np.sqrt(by_rows))
    assert found.high - 0.5 == pytest.approx(student.ppf(0.975, 16) * found.error)
    assert found.low + found.high == pytest.approx(1)
