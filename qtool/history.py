"""What training reports: one record per epoch, the same bytes for the same run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from qtool.config.training import Keep
from qtool.errors import reading


@dataclass(frozen=True)
class EpochRecord:
    """One epoch; epoch 0 is the model before training.

    Attributes:
        epoch: number, from 0.
        train_loss: mean over the rows trained on; None for epoch 0.
        validation_loss: mean over the validation rows, of the same loss.
        validation_metric: None where the task has none, or the validation rows have one class.
        learning_rate: of the epoch's last step; None for epoch 0.
    """

    epoch: int
    train_loss: float | None
    validation_loss: float
    validation_metric: float | None
    learning_rate: float | None = None


@dataclass(frozen=True)
class History:
    """All epochs of a run.

    Attributes:
        title: what was trained.
        metric: name of the metric; None where the task has none.
        higher_is_better: of that metric.
        fp32_loss: of the FP32 model on the validation rows; None when FP32 itself is trained.
        fp32_metric: likewise.
        keep: what chooses the epoch that is kept.
        epochs: in their order.
    """

    title: str
    metric: str | None
    higher_is_better: bool
    fp32_loss: float | None
    fp32_metric: float | None
    keep: Keep
    epochs: tuple[EpochRecord, ...]

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights are kept: the first with the best value of what chooses it."""
        if self.keep == "loss":
            return min(self.epochs, key=lambda record: record.validation_loss)
        sign = -1.0 if self.higher_is_better else 1.0

        def worse(record: EpochRecord) -> float:
            value = record.validation_metric
            return float("inf") if value is None else sign * value

        return min(self.epochs, key=worse)

    def to_json(self) -> str:
        """Returns the history as text."""
        raw = asdict(self)
        epochs = raw.pop("epochs")
        return json.dumps({**raw, "best_epoch": self.best.epoch, "epochs": epochs}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> History:
        """Returns the history that ``to_json`` wrote.

        Raises:
            StaleArtifactError: the text is not a history of this version.
        """
        with reading("a training history", where):
            raw = json.loads(text)
            raw.pop("best_epoch")
            epochs = tuple(EpochRecord(**record) for record in raw.pop("epochs"))
            return History(**raw, epochs=epochs)
