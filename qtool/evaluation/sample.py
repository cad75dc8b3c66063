"""The rows of a comparison: labels, what both models made of them, and the columns that judge.

What a model made of a row is kept in the smallest form that the metrics of the task read, so that
ten million rows fit in memory:

========================== =========================================================================
task                       predictions of each model
========================== =========================================================================
binary_classification      float32 (rows,), the probability of the positive class
multiclass_classification  float32 (rows, classes), probabilities
regression                 float32 (rows, outputs)
representation             float32 (rows, dimensions), the first output as it is
language_model             float64 (rows, 2): sum of the negative log-likelihoods, nats, of the
                           predicted tokens, and how many they are
sequence_tagging           int16 or int32 (rows, steps), the tag of every token
========================== =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Predictions = NDArray[Any]
Weights = NDArray[np.float64]
Statistic = Callable[[Weights | None], float]
"""Weights of the rows, float64 (rows,), as how often each is drawn → the figure; None: all once."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows that both models have scored.

    Attributes:
        rows: row numbers in the source, int64 (rows,).
        labels: as ``data.labels.Labels.read`` returns them; of shape (rows, 0) without labels.
        fp32: predictions of FP32, see the module.
        int8: predictions of INT8, of the same shape.
        columns: column of the source → its values, float64, datetime64 or str (object) (rows,), or,
            for a column of lists, object (rows,) of float32 arrays.
        agreeing: of a language model: int64 (rows,), tokens that both models put first.
        classes: the text of class or tag 0, 1, …; None where labels are no text.
    """

    rows: NDArray[np.int64]
    labels: NDArray[Any]
    fp32: Predictions
    int8: Predictions
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    agreeing: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: NDArray[Any]) -> Sample:
        """Returns the rows that ``index`` (positions or a mask) selects."""
        return Sample(
            self.rows[index],
            self.labels[index],
            self.fp32[index],
            self.int8[index],
            {name: values[index] for name, values in self.columns.items()},
            None if self.agreeing is None else self.agreeing[index],
            self.classes,
        )
