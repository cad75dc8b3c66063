"""Rows of a real data set and their splits: no row, and no window over rows, is in two splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.hashing import unit_interval

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
TRAINING, VALIDATION = 0.6, 0.15
"""Shares of the rows; the rest is the test."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split.

    Attributes:
        inputs: input name → float32 or int64 array, rows first.
        labels: shape (rows,); int64 classes, or float32 for a regression.
    """

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Splits:
    """The three splits of a data set; whatever is learned of it is learned on ``training``."""

    training: Rows
    validation: Rows
    test: Rows

    def all(self) -> tuple[Rows, Rows, Rows]:
        """Returns the three in the order of time."""
        return self.training, self.validation, self.test

    def inputs(self, rows: int) -> dict[str, NDArray[Any]]:
        """Returns the inputs of at most ``rows`` rows, test rows first and training rows last."""
        parts = (self.test, self.validation, self.training)
        return {
            name: np.concatenate([part.inputs[name][:rows] for part in parts])[:rows]
            for name in self.test.inputs
        }


def by_hash(hashes: NDArray[np.uint64]) -> tuple[Indices, Indices, Indices]:
    """Returns the row numbers of each split; a row's hash alone decides where it belongs.

    Args:
        hashes: 64 well-mixed bits per row.
    """
    place = unit_interval(hashes)
    first, second = TRAINING, TRAINING + VALIDATION
    inside = (place < first, (first <= place) & (place < second), second <= place)
    return tuple(np.flatnonzero(mask) for mask in inside)  # type: ignore[return-value]


def window_ends(
    steps: int, *, past: int, future: int, strides: tuple[int, int, int]
) -> tuple[Indices, Indices, Indices]:
    """Returns the last steps of the windows of each split, in the order of time.

    Args:
        steps: of the series, which is cut into three consecutive pieces.
        past: how many steps before its last one a window, or a feature in it, reaches back.
        future: how many steps after its last one the label looks ahead.
        strides: steps from one window to the next, by split.
    """
    cuts = [0, int(TRAINING * steps), int((TRAINING + VALIDATION) * steps), steps]
    pieces = zip(cuts[:-1], cuts[1:], strides, strict=True)
    ends = [np.arange(low + past, high - future, stride) for low, high, stride in pieces]
    return ends[0], ends[1], ends[2]


def standardized(values: Floats, training: Floats) -> NDArray[np.float32]:
    """Returns float32 ``values`` minus the mean of ``training``, over its standard deviation.

    Args:
        values: shape (..., columns).
        training: shape (rows, columns); a column that is constant there is only centred.
    """
    deviation = training.std(axis=0)
    scaled: Floats = (values - training.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return scaled.astype(np.float32)


def splits(parts: tuple[Indices, Indices, Indices], rows_of: Callable[[Indices], Rows]) -> Splits:
    """Returns the splits whose rows ``rows_of`` makes from their numbers."""
    training, validation, test = (rows_of(part) for part in parts)
    return Splits(training, validation, test)
