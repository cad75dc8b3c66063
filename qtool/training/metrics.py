"""The figure that training shows for a task beside its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtool.config.task import IGNORED

Labels = NDArray[Any]
Predictions = NDArray[np.float32]


class Metric(NamedTuple):
    """One metric of all validation rows.

    Attributes:
        name: as in the history.
        higher_is_better: which of two values is kept.
        of: labels and predictions of the same rows → value; None where it is not defined.
    """

    name: str
    higher_is_better: bool
    of: Callable[[Labels, Predictions], float | None]


def ranking_auc(labels: Labels, scores: Predictions) -> float | None:
    """Returns the area under the ROC curve, None with one class only.

    Source: Mann and Whitney 1947, the U statistic with mid-ranks for ties, over its largest value.
    """
    positive = labels == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mid_ranks[place[positive]].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def accuracy(labels: Labels, logits: Predictions) -> float:
    """Returns the share of rows whose largest logit is that of their class."""
    return float((logits.argmax(axis=1) == labels).mean())


def token_accuracy(labels: Labels, tags: Predictions) -> float | None:
    """Returns the share of tokens with the right tag, both (rows, steps); None without tokens."""
    counted = labels != IGNORED
    return float((tags == labels)[counted].mean()) if counted.any() else None


def rmse(labels: Labels, predictions: Predictions) -> float:
    """Returns the root of the mean squared error."""
    difference = predictions.astype(np.float64) - labels.reshape(predictions.shape)
    return float(np.sqrt(np.square(difference).mean()))


AUC = Metric("auc", True, ranking_auc)
ACCURACY = Metric("accuracy", True, accuracy)
TOKEN_ACCURACY = Metric("token_accuracy", True, token_accuracy)
RMSE = Metric("rmse", False, rmse)
