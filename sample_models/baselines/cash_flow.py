"""The last week again, the mean of the last eight weeks, and ridge regression.

Each is of a history divided by its mean; quantiles are those of its errors on the training split,
by day ahead.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import Ridge

from qtool.commands.scoring import quantile_levels
from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found

WEEK, WEEKS = 7, 8
SMALLEST_MEAN = 1e-3
"""Of a history, as in the model."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields quantiles (rows, days * quantiles), day by day."""
    levels = quantile_levels(experiment) or [0.5]
    days = labels_of(training).shape[1]
    known, future = _scaled(training)
    ridge = Ridge(alpha=100.0).fit(known, future)

    def last_week(history: Arrays) -> Arrays:
        return np.tile(history[:, -WEEK:], days // WEEK)

    def last_weeks(history: Arrays) -> Arrays:
        weeks = history[:, -WEEKS * WEEK :].reshape(-1, WEEKS, WEEK)
        return np.tile(weeks.mean(axis=1), days // WEEK)

    for name, forecast in (
        ("last week", last_week),
        ("mean of eight weeks", last_weeks),
        ("ridge regression", ridge.predict),
    ):
        errors = np.quantile(future - forecast(known), levels, axis=0).T
        scaled = forecast(_scaled(evaluation)[0])[:, :, None] + errors
        yield name, (scaled * _level(evaluation)[:, :, None]).reshape(len(evaluation), -1)


def _level(batch: Batch) -> Arrays:
    level: Arrays = batch.inputs["history"].mean(axis=1, keepdims=True)
    return np.maximum(level, SMALLEST_MEAN)


def _scaled(batch: Batch) -> tuple[Arrays, Arrays]:
    return batch.inputs["history"] / _level(batch), labels_of(batch) / _level(batch)
