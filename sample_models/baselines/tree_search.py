"""The even pace, the schedule of Almgren and Chriss, and boosted trees on the state."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from qtool.data.generators.execution import (
    PACES,
    PERMANENT,
    RISK_AVERSION,
    STEPS,
    TEMPORARY,
    Floats,
)
from sample_models.baselines.found import Arrays, Found

EVEN = PACES.index(1.0)
ROUNDS = 200
"""Of boosting."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields costs of the paces, basis points of what is left, (rows, paces)."""
    known = closed_form(evaluation.inputs["state"])
    even = np.repeat(known[:, [EVEN]], len(PACES), axis=1)
    even[:, EVEN] -= 1e-3
    yield "even pace", even
    yield "Almgren-Chriss", known
    labels, states = labels_of(training), training.inputs["state"]
    trees = [
        HistGradientBoostingRegressor(max_iter=ROUNDS)
        .fit(states, costs)
        .predict(evaluation.inputs["state"])
        for costs in labels.T
    ]
    yield "boosted trees", np.stack(trees, axis=1)


def closed_form(state: Arrays) -> Floats:
    """Returns what every pace costs without a signal when amounts may be any afterwards.

    The value of what is left, x, is half the spread and a multiple of x, per unit; the multiple of
    one step more follows from that of one less by the best share in between.

    Source: Bertsimas and Lo 1998, "Optimal control of execution costs", Journal of Financial
    Markets 1(1), section 3, with the risk of Almgren and Chriss 2000.

    Args:
        state: (rows, columns), ``parent_orders.features``.
    """
    remaining, steps_left = (state[:, 0] + 1) / 4, np.rint((state[:, 1] + 1) * STEPS / 2)
    volatility, spread = 130 * np.exp(state[:, 3] / 2), 3 * np.exp(state[:, 4] / 2)
    temporary, permanent = TEMPORARY * spread, PERMANENT * spread
    risk = RISK_AVERSION * volatility**2

    def multiple(share: Floats, after: Floats) -> Floats:
        left = 1 - share
        return temporary * share**2 + permanent * share * left + (risk + after) * left**2

    after, found = temporary, np.zeros_like(spread)
    for steps in range(1, STEPS):
        found = np.where(steps_left == steps + 1, after, found)
        best = (2 * (risk + after) - permanent) / (2 * (temporary - permanent + risk + after))
        after = multiple(best, after)
    shares = (np.minimum(1.0, pace / steps_left) for pace in PACES)
    costs = [spread / 2 + remaining * multiple(share, found) for share in shares]
    return np.stack(costs, axis=1)
