"""Metrics of numbers: point predictions, forecasts and quantiles.

Labels are float32 (rows,) or (rows, targets); the targets of a forecast are its periods.
Predictions are float32 (rows, targets), or with quantiles (rows, targets * quantiles): target by
target, each with its quantiles, as the quantile loss reads them. All targets count the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from qtool.config.evaluation import Forecast
from qtool.errors import DataError, ModelError
from qtool.evaluation.metrics.metric import Build, Floats, Metric, mean_of, mean_where, of_sums
from qtool.evaluation.sample import Predictions, Sample, Statistic

MEDIAN = 0.5
SMALLEST_SPREAD = 1e-12
"""Of a label's mean square: below, its sum of squares is rounding, and the label constant."""

Rowwise = Callable[[Floats, Floats], Floats]
"""(labels, predictions), float64 (rows, targets) → one term per row, (rows,)."""


def absolute(labels: Floats, predictions: Floats) -> Floats:
    """Returns the mean absolute error of each row.

    Source: scikit-learn ``mean_absolute_error``.
    """
    return np.asarray(np.abs(labels - predictions).mean(axis=1))


def squared(labels: Floats, predictions: Floats) -> Floats:
    """Returns the mean squared error of each row.

    Source: scikit-learn ``mean_squared_error``.
    """
    return np.asarray(np.square(labels - predictions).mean(axis=1))


def symmetric(labels: Floats, predictions: Floats) -> Floats:
    """Returns the mean of 2 * |error| / (|label| + |prediction|) of each row, 0 where both are 0.

    Source: Makridakis, Spiliotis, Assimakopoulos 2020, "The M4 Competition", International Journal
    of Forecasting 36(1), which writes it times 100 %.
    """
    size = np.abs(labels) + np.abs(predictions)
    error = 2 * np.abs(labels - predictions)
    relative = np.divide(error, size, out=np.zeros_like(size), where=size > 0)
    return np.asarray(relative.mean(axis=1))


def r2(errors: Floats, labels: Floats, squares: Floats, rows: float) -> float:
    """Returns the coefficient of determination, the mean over the targets.

    Args:
        errors: sum of the squared errors of each target, (targets,).
        labels: sum of the labels, less a constant, of each target.
        squares: sum of their squares.
        rows: how many.

    Source: scikit-learn ``r2_score``, but NaN where the labels of a target do not vary.
    """
    if not rows:
        return float("nan")
    spread = squares - labels**2 / rows
    if (spread <= SMALLEST_SPREAD * squares).any():
        return float("nan")
    return float((1 - errors / spread).mean())


def targets(sample: Sample, predictions: Predictions, numbers: int = 1) -> tuple[Floats, Floats]:
    """Returns labels (rows, targets) and predictions (rows, targets, numbers), float64.

    Args:
        sample: for its labels.
        predictions: of one model.
        numbers: what the model predicts for one target: 1, or one per quantile.

    Raises:
        ModelError: there are more or fewer values.
    """
    labels = sample.labels.reshape(len(sample), -1).astype(np.float64)
    wanted = labels.shape[1] * numbers
    if predictions.shape[1] != wanted:
        found = f"{predictions.shape[1]} values per row"
        expected = f"{labels.shape[1]} of the label"
        expected += f", each with {numbers} quantiles" if numbers > 1 else ""
        raise ModelError("model output", found, expected, "Check evaluation.forecast.quantiles.")
    found_numbers = predictions.reshape(*labels.shape, numbers).astype(np.float64)
    return labels, found_numbers


def naive_errors(sample: Sample, section: Forecast) -> Floats:
    """Returns the mean absolute error of the seasonal naive forecast within each history, (rows,).

    It is the mean of |value - value a season before| over the pairs without a missing value.

    Raises:
        DataError: the column holds no lists, or a row has no such pair.
    """
    where = f"evaluation.forecast.history {section.history!r}"
    histories = sample.columns[str(section.history)]
    if not all(isinstance(history, np.ndarray) for history in histories):
        raise DataError(where, "values that are no lists", "a column of lists of numbers")
    row = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    values = np.concatenate([np.empty(0), *histories])
    season = section.season
    changes, of = np.abs(values[season:] - values[:-season]), row[season:]
    pairs = (of == row[:-season]) & np.isfinite(changes)
    count = np.bincount(of[pairs], minlength=len(histories))
    if not count.all():
        short = int(count.argmin())
        found = f"{len(histories[short])} values at row {sample.rows[short]}"
        expected = f"more than a season of {season}, not missing"
        raise DataError(where, found, expected, "Leave such rows out, or mase.")
    return np.bincount(of[pairs], changes[pairs], len(histories)) / count


def point_metrics(quantiles: Sequence[float] | None) -> tuple[Metric, ...]:
    """Returns the metrics of one prediction per target: of quantiles the median, which is one."""

    def of_rows(terms: Rowwise) -> Build:
        return lambda sample, predictions: mean_of(terms(*_points(sample, predictions, quantiles)))

    def rmse(sample: Sample, predictions: Predictions) -> Statistic:
        mean = of_rows(squared)(sample, predictions)
        return lambda weights: float(np.sqrt(mean(weights)))

    def determination(sample: Sample, predictions: Predictions) -> Statistic:
        labels, points = _points(sample, predictions, quantiles)
        centred = labels - labels.mean(axis=0)
        errors, rows = np.square(labels - points), np.ones(len(labels))
        return of_sums(r2, errors, centred, np.square(centred), rows)

    return (
        Metric("mae", "MAE", "lower", of_rows(absolute)),
        Metric("rmse", "RMSE", "lower", rmse),
        Metric("smape", "sMAPE", "lower", of_rows(symmetric), span=2),
        Metric("r2", "R²", "higher", determination),
    )


def mase(section: Forecast, quantiles: Sequence[float] | None) -> Metric:
    """Returns the metric mean over rows of the absolute error over that of the seasonal naive.

    Each row is scaled by its own history; rows whose history repeats itself exactly have no scale
    and are left out.

    Source: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy", International
    Journal of Forecasting 22(4), section 3.
    """

    def build(sample: Sample, predictions: Predictions) -> Statistic:
        errors = absolute(*_points(sample, predictions, quantiles))
        naive = naive_errors(sample, section)
        scaled = np.divide(errors, naive, out=np.zeros_like(errors), where=naive > 0)
        return mean_where(scaled, naive > 0)

    return Metric("mase", "MASE", "lower", build)


def _points(
    sample: Sample, predictions: Predictions, quantiles: Sequence[float] | None
) -> tuple[Floats, Floats]:
    levels = [MEDIAN] if quantiles is None else list(quantiles)
    labels, found = targets(sample, predictions, len(levels))
    return labels, found[..., levels.index(MEDIAN)]
