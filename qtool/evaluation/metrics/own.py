"""A metric of the user: ``module:function``, called as ``function(labels, predictions)``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from qtool.errors import ModelError
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.results import Better
from qtool.evaluation.sample import Predictions, Sample, Statistic, Weights
from qtool.user_code import user_function, users_code

UNDEFINED = "Correct that code; where it is not defined, as for one class only, it returns NaN."


def own_metric(reference: str, pythonpath: Path | None) -> Metric:
    """Returns the metric that a function of the user computes.

    The function takes the labels and the predictions of one model, as ``Sample`` has them, and
    returns a float, NaN where it is not defined. Higher is better unless the function has the
    attribute ``better = "lower"``. A draw repeats rows.

    Args:
        reference: ``module:function``.
        pythonpath: directory that is looked in first.

    Raises:
        ModelError: the function is missing, or its ``better`` is another word.
    """
    where = f"evaluation.metrics {reference!r}"
    expected = "a function metric(labels, predictions)"
    function = user_function(reference, pythonpath, where, expected)
    better: Better = getattr(function, "better", "higher")
    if better not in get_args(Better):
        raise ModelError(where, f"better = {better!r}", "'higher' or 'lower'")

    def build(sample: Sample, predictions: Predictions) -> Statistic:
        once = _read_only(sample.labels), _read_only(predictions)

        def statistic(weights: Weights | None) -> float:
            given = once
            if weights is not None:
                rows = np.repeat(np.arange(len(sample)), weights.astype(np.int64))
                given = sample.labels[rows], predictions[rows]
            with users_code(where, UNDEFINED):
                value = function(*given)
            if not isinstance(value, (int, float, np.integer, np.floating)):
                raise ModelError(where, f"returned a {type(value).__name__}", "a number")
            return float(value)

        return statistic

    return Metric(reference, reference.rpartition(":")[2], better, build)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """Returns a view: what the user's function wrote would change all other metrics."""
    view = values.view()
    view.flags.writeable = False
    return view
