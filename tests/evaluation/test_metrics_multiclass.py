from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from qtool.config.evaluation import Trading
from qtool.errors import ConfigError, DataError, ModelError
from qtool.evaluation.metrics.multiclass import METRICS, predicted
from qtool.evaluation.metrics.trading import trading_metrics
from qtool.evaluation.sample import Sample

NAMED = {metric.name: metric for metric in METRICS}
# Predicted 0, 1, 1, 2 for 0, 1, 2, 2.
LABELS = np.array([0, 1, 2, 2])
PROBABILITIES = np.array(
    [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]], np.float32
)
RETURNS = np.array([0.02, -0.01, 0.03, 0.0])
LONG_SHORT = Trading(returns="next", positions=[-1, 0, 1], cost=0.001)


def sample_of(labels: NDArray, probabilities: NDArray, **columns: NDArray) -> Sample:
    return Sample(np.arange(len(labels)), labels, probabilities, probabilities, columns)


def value(name: str, labels: NDArray, probabilities: NDArray) -> float:
    return NAMED[name].build(sample_of(labels, probabilities), probabilities)(None)


def traded(name: str, section: Trading, returns: NDArray = RETURNS) -> float:
    metric = next(metric for metric in trading_metrics(section) if metric.name == name)
    return metric.build(sample_of(LABELS, PROBABILITIES, next=returns), PROBABILITIES)(None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 3 / 4),
        ("macro_f1", (1 + 2 / 3 + 2 / 3) / 3),
        ("mcc", (3 * 4 - (1 + 2 + 2)) / np.sqrt((16 - 6) * (16 - 6))),
        ("log_loss", (3 * np.log(2) + np.log(4)) / 4),
    ],
)
def test_worked_example(name: str, expected: float) -> None:
    assert value(name, LABELS, PROBABILITIES) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(st.integers(2, 40), st.integers(2, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_equals_scikit_learn(rows: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    probabilities = rng.dirichlet(np.ones(classes), rows).astype(np.float32)
    found, every = predicted(probabilities), np.arange(classes)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, found),
        "macro_f1": sklearn_metrics.f1_score(labels, found, average="macro"),
        "mcc": sklearn_metrics.matthews_corrcoef(labels, found),
        "log_loss": sklearn_metrics.log_loss(
            labels,
            probabilities.astype(np.float64) / probabilities.sum(axis=1, dtype=np.float64)[:, None],
            labels=every,
        ),
    }
    for name, reference in expected.items():
        tolerance = 1e-6 if name == "log_loss" else 1e-12  # float32 rows do not sum to 1 exactly
        assert value(name, labels, probabilities) == pytest.approx(reference, abs=tolerance)


def test_log_loss_is_that_of_scikit_learn_where_the_sums_are_exact() -> None:
    expected = sklearn_metrics.log_loss(LABELS, PROBABILITIES.astype(np.float64))
    assert value("log_loss", LABELS, PROBABILITIES) == pytest.approx(expected, rel=1e-12)


def test_a_class_that_the_model_lacks_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="3 classes, and class 3 at row 1"):
        value("macro_f1", np.array([0, 3, 1, 1]), PROBABILITIES)


def test_hit_rate_counts_rows_with_a_position_and_a_return() -> None:
    # Positions -1, 0, 0, 1: only the first has both, and is wrong.
    assert traded("hit_rate", LONG_SHORT) == 0
    assert traded("hit_rate", LONG_SHORT, -RETURNS) == 1
    flat = Trading(returns="next", positions=[0, 0, 0])
    assert np.isnan(traded("hit_rate", flat))


def test_net_pnl_pays_for_every_change_of_position() -> None:
    # Opens -1 and loses 0.02, closes it, opens 1 with a return of 0: three changes by 1.
    assert traded("net_pnl", LONG_SHORT) == pytest.approx((-0.02 - 3 * 0.001) / 4)
    always = Trading(returns="next", positions=[2, 2, 2], cost=0.001)
    assert traded("net_pnl", always) == pytest.approx((2 * 0.04 - 2 * 0.001) / 4)


def test_net_pnl_of_a_draw_weighs_the_rows_as_they_were() -> None:
    metric = trading_metrics(LONG_SHORT)[1]
    statistic = metric.build(sample_of(LABELS, PROBABILITIES, next=RETURNS), PROBABILITIES)
    assert statistic(np.array([0.0, 2, 0, 2])) == pytest.approx(2 * (-0.001 - 0.001) / 4)


def test_positions_must_fit_the_classes() -> None:
    with pytest.raises(ConfigError, match="2 positions for 3 classes"):
        traded("net_pnl", Trading(returns="next", positions=[-1, 1]))


@pytest.mark.parametrize(
    ("returns", "found"),
    [
        (np.array([0.1, np.nan, 0.1, 0.1]), "'next': nan at row 1"),
        (np.array(["a", "b", "c", "d"], object), "'next': texts or lists"),
    ],
)
def test_returns_must_be_numbers(returns: NDArray, found: str) -> None:
    with pytest.raises(DataError, match=found):
        traded("hit_rate", LONG_SHORT, returns)
