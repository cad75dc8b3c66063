from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from qtool.config.evaluation import Evaluation, Forecast, Risk
from qtool.errors import DataError, ModelError
from qtool.evaluation.metrics.quantiles import coverage_error, quantile_metrics
from qtool.evaluation.metrics.regression import mase, naive_errors, point_metrics
from qtool.evaluation.metrics.risk import risk_metrics, risk_tests
from qtool.evaluation.sample import Sample
from qtool.statistics.value_at_risk import christoffersen, kupiec

LEVELS = [0.1, 0.5, 0.9]


def sample_of(labels: object, predictions: object, **columns: NDArray) -> Sample:
    found = np.asarray(predictions, np.float32)
    given = np.asarray(labels, np.float32)
    return Sample(np.arange(len(given)), given, found, found, columns)


def value(name: str, metrics: tuple, sample: Sample) -> float:
    metric = next(metric for metric in metrics if metric.name == name)
    return metric.build(sample, sample.fp32)(None)


def lists(*values: list[float]) -> NDArray:
    column = np.empty(len(values), object)
    column[:] = [np.array(row, np.float32) for row in values]
    return column


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mae", (1 + 0 + 2 + 3) / 4),
        ("rmse", np.sqrt((1 + 0 + 4 + 9) / 4)),
        ("smape", (2 * 1 / 3 + 0 + 2 * 2 / 6 + 2 * 3 / 3) / 4),
        ("r2", 1 - 14 / (0.25 + 2.25 + 0.25 + 2.25)),  # about the mean, 1.5
    ],
)
def test_worked_example(name: str, expected: float) -> None:
    sample = sample_of([1, 0, 2, 3], [[2], [0], [4], [0]])
    assert value(name, point_metrics(None), sample) == pytest.approx(expected)


@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_points_equal_scikit_learn(rows: int, targets: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = 100 + rng.normal(size=(rows, targets)).astype(np.float32)
    sample = sample_of(labels, labels + rng.normal(size=labels.shape))
    given, found = labels.astype(np.float64), sample.fp32.astype(np.float64)
    expected = {
        "mae": sklearn_metrics.mean_absolute_error(given, found),
        "rmse": sklearn_metrics.mean_squared_error(given, found) ** 0.5,
        "r2": sklearn_metrics.r2_score(given, found),
    }
    for name, reference in expected.items():
        found_value = value(name, point_metrics(None), sample)
        assert found_value == pytest.approx(reference, rel=1e-10 if name == "r2" else 1e-12)


@given(st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_smape_is_scaled_as_its_authors_say(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, found = rng.normal(size=(2, rows))
    sample = sample_of(labels, found[:, None])
    smape = value("smape", point_metrics(None), sample)
    assert 0 <= smape <= 2
    again = sample_of(8 * labels, 8 * found[:, None])
    assert value("smape", point_metrics(None), again) == pytest.approx(smape)


def test_r2_is_not_defined_where_labels_do_not_vary() -> None:
    sample = sample_of([0.1, 0.1, 0.1], [[0.1], [0.2], [0.3]])
    assert np.isnan(value("r2", point_metrics(None), sample))
    varied = sample_of([0.1, 0.1, 0.7], [[0.1], [0.2], [0.3]])
    statistic = point_metrics(None)[3].build(varied, varied.fp32)
    assert np.isnan(statistic(np.array([2.0, 1, 0])))


def test_mase_divides_by_the_naive_error_of_each_history() -> None:
    # Seasonal changes 2, 2 and 1, 3: mean 2 each. Errors 1 and 3, means over two periods.
    history = lists([1, 5, 3, 7], [0, 0, 1, 3])
    sample = sample_of([[1, 1], [1, 1]], [[2, 2], [4, 4]], past=history)
    section = Forecast(history="past", season=2)
    assert naive_errors(sample, section).tolist() == [2, 2]
    assert value("mase", (mase(section, None),), sample) == pytest.approx((1 / 2 + 3 / 2) / 2)


def test_mase_skips_missing_values_and_leaves_constant_histories_out() -> None:
    history = lists([1, np.nan, 2, 4], [3, 3, 3])
    sample = sample_of([0, 0], [[4], [100]], past=history)
    section = Forecast(history="past")
    assert naive_errors(sample, section).tolist() == [2, 0]
    assert value("mase", (mase(section, None),), sample) == pytest.approx(2)


@pytest.mark.parametrize(
    ("history", "found"),
    [
        (lists([1, 2], [1]), "1 values at row 1; expected more than a season of 1"),
        (lists([1, 2], []), "0 values at row 1"),
        (lists([np.nan, 2], [1, 2]), "2 values at row 0"),
        (np.zeros(2), "no lists"),
    ],
)
def test_history_must_have_a_season(history: NDArray, found: str) -> None:
    sample = sample_of([0, 0], [[1], [1]], past=history)
    with pytest.raises(DataError, match=found):
        naive_errors(sample, Forecast(history="past"))


def test_quantiles_by_hand() -> None:
    # Label 2 lies between 1 and 3: 0.1 * 1, 0.5 * 0, 0.1 * 1. Label 5: 0.1 * 4, 0.5 * 3, 0.9 * 2.
    sample = sample_of([2, 5], [[1, 2, 3], [1, 2, 3]])
    pinball = (0.1 + 0 + 0.1 + 0.4 + 1.5 + 1.8) / 6
    assert value("pinball", quantile_metrics(LEVELS), sample) == pytest.approx(pinball)
    assert value("crps", quantile_metrics(LEVELS), sample) == pytest.approx(2 * pinball)
    metric = coverage_error(LEVELS)
    assert metric.title == "Error of 80 % coverage"
    assert value("coverage_error", (metric,), sample) == pytest.approx(0.3)
    assert value("mae", point_metrics(LEVELS), sample) == pytest.approx(1.5)


@given(st.integers(1, 30), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_pinball_equals_scikit_learn(rows: int, targets: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.normal(size=(rows, targets)).astype(np.float32)
    # Target by target, each with its quantiles.
    outputs = rng.normal(size=(rows, targets, 3)).astype(np.float32)
    expected = np.mean(
        [
            sklearn_metrics.mean_pinball_loss(
                labels.astype(np.float64), outputs[..., place].astype(np.float64), alpha=level
            )
            for place, level in enumerate(LEVELS)
        ]
    )
    sample = sample_of(labels, outputs.reshape(rows, -1))
    assert value("pinball", quantile_metrics(LEVELS), sample) == pytest.approx(expected, rel=1e-12)


def test_crps_of_many_quantiles_nears_that_of_the_normal_distribution() -> None:
    levels = ((np.arange(999) + 0.5) / 999).tolist()
    sample = sample_of([0.7], [norm.ppf(levels)])
    # Gneiting and Raftery 2007, "Strictly proper scoring rules", equation 21, for N(0, 1) at 0.7.
    exact = 0.7 * (2 * norm.cdf(0.7) - 1) + 2 * norm.pdf(0.7) - 1 / np.sqrt(np.pi)
    assert value("crps", quantile_metrics(levels), sample) == pytest.approx(exact, abs=2e-3)


def test_outputs_must_fit_the_labels() -> None:
    with pytest.raises(ModelError, match="3 values per row; expected 2 of the label"):
        value("mae", point_metrics(None), sample_of([[1, 2]], [[1, 2, 3]]))
    with pytest.raises(ModelError, match="4 values per row; expected 1 of the label, each with 3"):
        value("crps", quantile_metrics(LEVELS), sample_of([1], [[1, 2, 3, 4]]))


def test_risk_by_hand() -> None:
    # Losses above the VaR of 2 are 3 and 5; they are 1 below and 1 above the ES of 4.
    sample = sample_of([0, 1, 3, 5], [[2, 4]] * 4)
    metrics = risk_metrics(Risk(level=0.9))
    assert value("var_exceedance_error", metrics, sample) == pytest.approx(0.4)
    assert value("es_error", metrics, sample) == pytest.approx(0)
    assert value("pinball", metrics, sample) == pytest.approx((0.2 + 0.1 + 0.9 * 1 + 0.9 * 3) / 4)
    calm = sample_of([0, 1], [[2, 4]] * 2)
    assert np.isnan(value("es_error", metrics, calm))


def test_risk_tests_are_those_of_the_exceedances() -> None:
    rng = np.random.default_rng(2)
    losses = rng.normal(size=500).astype(np.float32)
    fp32 = np.tile(np.float32([1.6, 2.1]), (500, 1))
    sample = Sample(np.arange(500), losses, fp32, fp32 - np.float32(0.4))
    found = {test.name: test for test in risk_tests(sample, Evaluation(risk=Risk(level=0.95)))}
    exceedances = losses > np.float32(1.6)
    assert found["Kupiec"].fp32 == pytest.approx(kupiec(exceedances, 0.05).p_value)
    both = christoffersen(losses > fp32[:, 0] - np.float32(0.4), 0.05)
    assert found["Christoffersen"].int8 == pytest.approx(both.p_value)
    assert found["Christoffersen"].statistic_int8 == pytest.approx(both.statistic)
    assert found["Kupiec"].int8 < 0.01 < found["Kupiec"].fp32


def test_risk_needs_var_and_es() -> None:
    with pytest.raises(ModelError, match=r"3 outputs .* expected VaR and ES"):
        value("es_error", risk_metrics(Risk(level=0.9)), sample_of([1], [[1, 2, 3]]))
    with pytest.raises(DataError, match="at least two periods"):
        risk_tests(sample_of([1], [[1, 2]]), Evaluation(risk=Risk(level=0.9)))
