"""The last season again, the mean of the last seasons, and ridge regression.

A season is a week of daily data, a year of monthly data. Each forecast is of a history divided by
its mean; quantiles are those of its errors on the training split, by step ahead.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.linear_model import Ridge

from qtool.commands.scoring import quantile_levels
from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found

NAMES = {7: ("last week", "mean of eight weeks"), 12: ("last year", "mean of three years")}
SEASONS = {7: 8, 12: 3}
SMALLEST_MEAN = 1e-3
"""Of a history, as in the model."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields quantiles (rows, steps ahead * quantiles), step by step."""
    levels = quantile_levels(experiment) or [0.5]
    steps, season = labels_of(training).shape[1], experiment.evaluation.forecast.season
    known, future = _scaled(training)
    ridge = Ridge(alpha=100.0).fit(known, future)

    def mean_of(seasons: int, history: Arrays) -> Arrays:
        last = history[:, -seasons * season :].reshape(-1, seasons, season).mean(axis=1)
        return np.tile(last, -(-steps // season))[:, :steps]

    last, several = NAMES[season]
    for name, forecast in (
        (last, partial(mean_of, 1)),
        (several, partial(mean_of, SEASONS[season])),
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
