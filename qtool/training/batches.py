"""Mini-batches of stored rows as tensors, in an order that follows from the seed alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.data.memory_map import Rows
from qtool.errors import DataError

MINIMUM_ROWS = 2
"""Batch normalization cannot train on a single row."""


def take(rows: Rows, chosen: slice | NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
    """Returns the inputs by name and the labels, float32, of the chosen rows."""
    inputs = {name: torch.from_numpy(np.array(a[chosen])) for name, a in rows.inputs.items()}
    return inputs, torch.from_numpy(np.array(rows.labels[chosen], np.float32))


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Returns the number of mini-batches; a last one of a single row is left out.

    Raises:
        DataError: there are too few rows for one.
    """
    if rows < MINIMUM_ROWS:
        raise DataError("training split", f"{rows} rows", f"at least {MINIMUM_ROWS}")
    return rows // batch_size + (rows % batch_size >= min(MINIMUM_ROWS, batch_size))


def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Returns the order of the rows in one epoch."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def in_order(rows: Rows, batch_size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yields all rows in their order."""
    for start in range(0, len(rows.labels), batch_size):
        yield take(rows, slice(start, start + batch_size))
