"""Metrics of predicted quantiles; labels and predictions are those of ``regression``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qtool.evaluation.metrics.metric import Floats, Metric, mean_of
from qtool.evaluation.metrics.regression import targets
from qtool.evaluation.sample import Predictions, Sample, Statistic


def pinball(labels: Floats, predictions: Floats, levels: Sequence[float]) -> Floats:
    """Returns the mean of max(q * e, (q - 1) * e), e = label - prediction, of each row.

    Args:
        labels: (rows, targets).
        predictions: (rows, targets, quantiles).
        levels: q, in the order of the last axis.

    Source: Koenker and Bassett 1978, "Regression quantiles", Econometrica 46(1); scikit-learn
    ``mean_pinball_loss``.
    """
    q, error = np.array(levels), labels[..., None] - predictions
    return np.asarray(np.maximum(q * error, (q - 1) * error).mean(axis=(1, 2)))


def quantile_metrics(levels: Sequence[float]) -> tuple[Metric, ...]:
    """Returns the metrics of the quantiles of ``levels``, in the order of the outputs."""

    def losses(sample: Sample, predictions: Predictions) -> Floats:
        return pinball(*targets(sample, predictions, len(levels)), levels)

    return (
        Metric("pinball", "Pinball loss", "lower", lambda *given: mean_of(losses(*given))),
        # Gneiting and Ranjan 2011, "Comparing density forecasts using threshold- and
        # quantile-weighted scoring rules", equation 17: twice the pinball loss over all levels,
        # whose integral is here the mean over those that are predicted.
        Metric("crps", "CRPS", "lower", lambda *given: mean_of(2 * losses(*given))),
    )


def coverage_error(levels: Sequence[float]) -> Metric:
    """Returns the metric |share of labels within the outermost two quantiles - nominal share|.

    Args:
        levels: in the order of the outputs, at least two.
    """
    order = np.argsort(levels)
    low, high = int(order[0]), int(order[-1])
    nominal = levels[high] - levels[low]

    def build(sample: Sample, predictions: Predictions) -> Statistic:
        labels, found = targets(sample, predictions, len(levels))
        inside = (found[..., low] <= labels) & (labels <= found[..., high])
        share = mean_of(inside.mean(axis=1))
        return lambda weights: abs(share(weights) - nominal)

    return Metric(
        "coverage_error", f"Error of {100 * nominal:.4g} % coverage", "lower", build, span=1
    )
