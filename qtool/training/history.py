"""What training reports: one record per epoch, the same bytes for the same run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class EpochRecord:
    """One epoch; epoch 0 is the model before training.

    Attributes:
        epoch: number, from 0.
        train_loss: mean over the rows trained on; None for epoch 0.
        validation_loss: mean over the validation rows, of the same loss.
        validation_auc: None when the validation rows have one class only.
    """

    epoch: int
    train_loss: float | None
    validation_loss: float
    validation_auc: float | None


@dataclass(frozen=True)
class History:
    """All epochs of a run."""

    epochs: tuple[EpochRecord, ...]

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights were kept: the first with the smallest validation loss."""
        return min(self.epochs, key=lambda record: record.validation_loss)

    def to_json(self) -> str:
        """Returns the history as text."""
        best, epochs = self.best.epoch, [asdict(record) for record in self.epochs]
        return json.dumps({"best_epoch": best, "epochs": epochs}, indent=2) + "\n"


def ranking_auc(labels: NDArray[np.generic], scores: NDArray[np.float32]) -> float | None:
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
