"""Batches: named arrays of the same rows, and how they are cut and joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of one split.

    Attributes:
        rows: row numbers in the source, int64 (rows,).
        labels: what ``labels.Labels.read`` returns; None when the data section names no label.
        inputs: model input name → array whose first axis is the rows.
        columns: of the source, as ``judging_columns`` reads them.
    """

    rows: NDArray[np.int64]
    labels: NDArray[Any] | None
    inputs: dict[str, NDArray[Any]]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: slice | NDArray[Any]) -> Batch:
        """Returns the rows that ``index`` (a slice, positions or a mask) selects."""
        inputs = {name: values[index] for name, values in self.inputs.items()}
        labels = None if self.labels is None else self.labels[index]
        columns = {name: values[index] for name, values in self.columns.items()}
        return Batch(self.rows[index], labels, inputs, columns)


def labels_of(batch: Batch) -> NDArray[Any]:
    """Returns the labels of a batch whose data section names a label."""
    assert batch.labels is not None
    return batch.labels


def join(batches: Sequence[Batch]) -> Batch:
    """Returns the rows of all batches, in order."""
    if len(batches) == 1:
        return batches[0]
    return Batch(
        np.concatenate([batch.rows for batch in batches]),
        None if batches[0].labels is None else np.concatenate([labels_of(b) for b in batches]),
        _joined([batch.inputs for batch in batches]),
        _joined([batch.columns for batch in batches]),
    )


def _joined(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rechunk(batches: Iterable[Batch], batch_rows: int) -> Iterator[Batch]:
    """Yields the same rows in batches of exactly ``batch_rows`` rows (the last may be shorter)."""
    waiting: list[Batch] = []
    waiting_rows = 0
    for batch in batches:
        rest = batch
        while waiting_rows + len(rest) >= batch_rows:
            taken = batch_rows - waiting_rows
            yield join([*waiting, rest.take(slice(0, taken))])
            rest, waiting, waiting_rows = rest.take(slice(taken, None)), [], 0
        if len(rest):
            waiting.append(rest)
            waiting_rows += len(rest)
    if waiting:
        yield join(waiting)
