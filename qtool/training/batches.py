"""Mini-batches of stored rows as tensors, in an order that follows from the seed alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.data.memory_map import Rows
from qtool.errors import DataError

MINIMUM_ROWS = 2
"""Batch normalization cannot train on a single row."""


def take(
    rows: Rows, chosen: slice | NDArray[np.int64], device: torch.device
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Returns the inputs by name and the labels (None where the task has none)."""

    def tensor(array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.array(array[chosen])).to(device)

    inputs = {name: tensor(array) for name, array in rows.inputs.items()}
    return inputs, None if rows.labels is None else tensor(rows.labels)


def steps_per_epoch(rows: int, batch_size: int, processes: int = 1) -> int:
    """Returns the number of mini-batches; a last one that is too small is left out.

    Raises:
        DataError: there are too few rows for one.
    """
    smallest = MINIMUM_ROWS * processes
    if rows < smallest:
        raise DataError("training split", f"{rows} rows", f"at least {smallest}")
    return rows // batch_size + (rows % batch_size >= min(smallest, batch_size))


def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Returns the order of the rows in one epoch."""
    return np.random.default_rng((seed, epoch)).permutation(rows)
