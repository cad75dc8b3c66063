from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from qtool.data.memory_map import Rows
from qtool.training.batches import epoch_order, steps_per_epoch, take

ROWS = Rows({"x": np.arange(10.0, dtype=np.float32)[:, None]}, np.arange(10, dtype=np.int8) % 2)


@given(st.integers(2, 50), st.integers(1, 20))
def test_no_batch_has_a_single_row_unless_asked_for(rows, size):
    batches = [min(size, rows - s * size) for s in range(steps_per_epoch(rows, size))]
    assert min(batches) >= min(2, size)
    assert sum(batches) >= rows - 1


@given(st.integers(2, 50), st.integers(0, 3), st.integers(0, 3))
def test_an_order_holds_every_row_once(rows, seed, epoch):
    order = epoch_order(rows, seed, epoch)
    assert sorted(order) == list(range(rows))
    np.testing.assert_array_equal(order, epoch_order(rows, seed, epoch))


def test_epochs_and_seeds_differ():
    assert len({tuple(epoch_order(20, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@given(st.integers(4, 50), st.integers(2, 20))
def test_every_process_gets_rows_of_every_batch(rows, size):
    batches = [min(size, rows - s * size) for s in range(steps_per_epoch(rows, size, 2))]
    assert min(batches) >= min(4, size)


def test_taken_rows_are_copies():
    inputs, labels = take(ROWS, np.array([3, 1]), torch.device("cpu"))
    inputs["x"].zero_()
    assert ROWS.inputs["x"][3, 0] == 3
    assert labels.tolist() == [1, 1]
    assert take(Rows(ROWS.inputs, None), slice(0, 2), torch.device("cpu"))[1] is None
