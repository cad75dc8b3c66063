"""Metrics and tests of value at risk (VaR) and expected shortfall (ES).

Labels are realised losses, float32 (rows,); predictions are float32 (rows, 2), VaR and ES as
losses; rows are successive periods, in the order of the sample. A loss above its VaR exceeds it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Evaluation, Risk
from qtool.errors import DataError, ModelError
from qtool.evaluation.metrics.metric import Floats, Metric, mean_of, mean_where
from qtool.evaluation.metrics.quantiles import pinball
from qtool.evaluation.results import TestResult
from qtool.evaluation.sample import Predictions, Sample, Statistic
from qtool.statistics.value_at_risk import (
    Exceedances,
    LikelihoodRatio,
    christoffersen,
    christoffersen_independence,
    kupiec,
)

Test = Callable[[Exceedances], LikelihoodRatio]


def risk_metrics(section: Risk) -> tuple[Metric, ...]:
    """Returns the metrics of VaR at the level of ``section``, and of ES.

    ``var_exceedance_error`` is |share of exceedances - (1 - level)|. ``es_error`` is |mean of
    loss - ES| over the exceedances, 0 of a right ES (McNeil and Frey 2000, "Estimation of
    tail-related risk measures", Journal of Empirical Finance 7, section 4.2, without their scale).
    """

    def exceedance_error(sample: Sample, predictions: Predictions) -> Statistic:
        share = mean_of(exceedances_of(sample, predictions).astype(np.float64))
        return lambda weights: abs(share(weights) - (1 - section.level))

    def shortfall_error(sample: Sample, predictions: Predictions) -> Statistic:
        losses, _, shortfall = _columns(sample, predictions)
        mean = mean_where(losses - shortfall, exceedances_of(sample, predictions))
        return lambda weights: abs(mean(weights))

    def loss(sample: Sample, predictions: Predictions) -> Statistic:
        losses, var, _ = _columns(sample, predictions)
        return mean_of(pinball(losses[:, None], var[:, None, None], [section.level]))

    return (
        Metric("pinball", "Pinball loss of VaR", "lower", loss),
        Metric(
            "var_exceedance_error", "Error of VaR exceedances", "lower", exceedance_error, span=1
        ),
        Metric("es_error", "Error of ES", "lower", shortfall_error),
    )


def exceedances_of(sample: Sample, predictions: Predictions) -> NDArray[np.bool_]:
    """Returns the rows whose loss is above the predicted VaR, (rows,)."""
    losses, var, _ = _columns(sample, predictions)
    return np.asarray(losses > var)


def risk_tests(sample: Sample, section: Evaluation) -> tuple[TestResult, ...]:
    """Returns the tests of the exceedances of each model's VaR.

    Raises:
        DataError: there are fewer than two rows.
    """
    if len(sample) < 2:
        raise DataError("evaluation.risk", f"{len(sample)} rows", "at least two periods")
    series = [exceedances_of(sample, predictions) for predictions in (sample.fp32, sample.int8)]
    assert section.risk is not None
    expected = 1 - section.risk.level

    def result(name: str, hypothesis: str, source: str, test: Test) -> TestResult:
        fp32, int8 = (test(exceedances) for exceedances in series)
        values = fp32.p_value, int8.p_value, fp32.statistic, int8.statistic
        return TestResult(name, hypothesis, *values, source)

    return (
        result(
            "Kupiec",
            f"Losses exceed VaR in {100 * expected:.4g} % of the periods",
            "Kupiec 1995, Journal of Derivatives 3(2)",
            lambda exceedances: kupiec(exceedances, expected),
        ),
        result(
            "Christoffersen independence",
            "Exceedances do not depend on the period before",
            "Christoffersen 1998, International Economic Review 39(4)",
            christoffersen_independence,
        ),
        result(
            "Christoffersen",
            "Both: as often as they should, and independently",
            "Christoffersen 1998, International Economic Review 39(4)",
            lambda exceedances: christoffersen(exceedances, expected),
        ),
    )


def _columns(sample: Sample, predictions: Predictions) -> tuple[Floats, Floats, Floats]:
    """Returns losses, VaR and ES, float64 (rows,)."""
    if predictions.shape[1] != 2 or sample.labels.ndim != 1:
        found = f"{predictions.shape[1]} outputs for labels of shape {sample.labels.shape}"
        raise ModelError("model output", found, "VaR and ES, for one loss per row")
    var, shortfall = predictions.T.astype(np.float64)
    return sample.labels.astype(np.float64), var, shortfall
