"""An attack that asks a model for scores only: coordinate search within the region.

Each query moves one column of every row, in an order drawn for each row, and keeps the move where
the loss does not fall. The first sweep over the columns tries both ends of each, which is exact
where the score is monotone in every column; later ones try random points between. Ties are kept:
the scores of an integer model have plateaus.

Source: Guo et al. 2019, "Simple black-box adversarial attacks", arXiv 1905.07121, algorithm 1, with
the columns as directions and the region instead of a fixed step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.config.task import Task
from qtool.data.signature import Arrays
from qtool.errors import ConfigError
from qtool.robustness.attack import Predict
from qtool.robustness.feasible import Region

SMALLEST = 1e-12
"""Probability below which the loss no longer rises."""


def search(
    predict: Predict,
    task: Task,
    inputs: Arrays,
    labels: NDArray[Any],
    regions: Mapping[str, Region],
    queries: int,
    random: np.random.Generator,
    asked: Callable[[], None] = lambda: None,
) -> Arrays:
    """Returns ``inputs`` with the largest loss of the true labels that was found.

    Args:
        predict: the model.
        task: decides the loss; see ``losses``.
        inputs: encoded, (rows, …) each.
        labels: of the rows.
        regions: where inputs may be moved to.
        queries: scores per row, besides that of the row itself.
        random: draws order and points.
        asked: called after each query.
    """
    rows = np.arange(len(labels))
    places = [(name, p) for name, region in regions.items() for p in region.movable.positions]
    order = random.permuted(np.tile(np.arange(len(places)), (len(rows), 1)), axis=1)
    best = dict(inputs)
    loss = losses(task, labels, predict(best))
    for query in range(queries):
        turn = order[:, query // 2 % len(places)]
        first_sweep = query < 2 * len(places)
        share = np.full(len(rows), query % 2) if first_sweep else random.random(len(rows))
        tried = best | {name: best[name].copy() for name in regions}
        for index, (name, place) in enumerate(places):
            chosen = rows[turn == index]
            low, high = (bound[chosen, place] for bound in regions[name].bounds)
            between = (1 - share[chosen]) * low + share[chosen] * high
            tried[name][chosen, place] = np.clip(between.astype(np.float32), low, high)
        tried |= {name: region.settle(tried[name]) for name, region in regions.items()}
        found = losses(task, labels, predict(tried))
        kept = found >= loss
        loss = np.where(kept, found, loss)
        for name in regions:
            best[name] = np.where(kept[:, None], tried[name], best[name])
        asked()
    return best


def losses(task: Task, labels: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the loss of each row: cross-entropy of classes, squared error of numbers; (rows,).

    Raises:
        ConfigError: numbers that are no predictions of the labels one by one.
    """
    found = predictions.astype(np.float64)
    if task == "binary_classification":
        true = np.where(labels == 1, found, 1 - found)
        return -np.log(np.maximum(true, SMALLEST))
    if task == "multiclass_classification":
        true = np.take_along_axis(found, labels.astype(np.int64)[:, None], axis=1)[:, 0]
        return -np.log(np.maximum(true, SMALLEST))
    wanted = labels.reshape(len(labels), -1).astype(np.float64)
    if task != "regression" or wanted.shape != found.shape:
        raise ConfigError(
            "evaluation.robustness.attacks",
            f"black_box with the task {task}, predictions {found.shape} and labels {labels.shape}",
            "classes, or one prediction for each number of the label",
            "Remove black_box from the attacks.",
        )
    return np.asarray(((found - wanted) ** 2).mean(axis=1))
