"""The epochs of a training as rows of the live table."""

from __future__ import annotations

from qtool.history import EpochRecord, History
from qtool.progress import TableTask


def columns(history: History) -> tuple[str, ...]:
    """Returns the heads of the table; no epoch needs to have ended."""
    losses = ("epoch", "train loss", "validation loss")
    if history.metric is None:
        return losses
    fp32 = () if history.fp32_metric is None else (f"{history.metric} FP32",)
    return (*losses, history.metric, *fp32)


def add_rows(table: TableTask, history: History, first: int = 0) -> None:
    """Adds the epochs from index ``first`` on, and marks the one that is kept so far.

    Args:
        table: opened with ``columns(history)``.
        history: all epochs that ended.
        first: 0 when training starts or goes on, the last one when an epoch ends.
    """
    for record in history.epochs[first:]:
        table.row(_cells(history, record), kept=record is history.best)


def _cells(history: History, record: EpochRecord) -> tuple[str, ...]:
    values = (
        record.train_loss,
        record.validation_loss,
        record.validation_metric,
        history.fp32_metric,
    )
    texts = (str(record.epoch), *("" if value is None else f"{value:#.6g}" for value in values))
    return texts[: len(columns(history))]
