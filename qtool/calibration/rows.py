"""Rows for the calibration pass: batches of any size in, the cuts that the pass wants out."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.numerics.tensor_statistics import BLOCK_ROWS

Inputs = Mapping[str, NDArray[Any]]
RUN_BYTES = 16 << 20
"""Values observed per run of the model. More leave the cache, fewer pay the cost of a call more
often: of an encoder with 8 MB per row, two rows at a time are the fastest."""


class RowReader:
    """Takes rows out of a stream of batches, across their borders; holds one batch at a time."""

    def __init__(self, batches: Iterable[Inputs]) -> None:
        self._batches = iter(batches)
        self._ends = [0]  # rows up to each batch
        self._rest: Inputs = {}

    def take(self, rows: int) -> Inputs:
        """Returns the next ``rows`` rows, at least one; fewer at the end, none after it.

        Fewer also before a batch whose arrays have another shape (steps of another padded length).
        """
        parts: list[Inputs] = []
        while rows > 0 and self._fill() and (not parts or _fits(parts[0], self._rest)):
            parts.append({name: array[:rows] for name, array in self._rest.items()})
            self._rest = {name: array[rows:] for name, array in self._rest.items()}
            rows -= row_count(parts[-1])
        if len(parts) < 2:
            return parts[0] if parts else {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def batch_of(self, row: int) -> int:
        """Returns the number of the batch that a row came with; both count from 0."""
        return bisect_right(self._ends, row) - 1

    def _fill(self) -> bool:
        while row_count(self._rest) == 0:
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._rest = batch
            self._ends.append(self._ends[-1] + row_count(batch))
        return True


def row_count(inputs: Inputs) -> int:
    """Returns the rows of a batch."""
    return len(next(iter(inputs.values()), ()))


def rows_per_run(bytes_per_row: int) -> int:
    """Returns how many rows to run at a time: a power of two, so that runs end where blocks do."""
    wanted = max(1, min(RUN_BYTES // max(bytes_per_row, 1), BLOCK_ROWS))
    return 1 << (wanted.bit_length() - 1)


def rows_until_cut(row: int, per_run: int) -> int:
    """Returns how many rows lie between ``row`` and the next cut.

    Cuts depend on row numbers only, so that the runtime adds up the same rows together whatever
    the size of the batches.
    """
    return per_run - row % per_run


def _fits(a: Inputs, b: Inputs) -> bool:
    return all(a[name].shape[1:] == b[name].shape[1:] for name in a)
