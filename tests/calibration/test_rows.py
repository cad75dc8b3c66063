from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.calibration.rows import RowReader, row_count, rows_per_run, rows_until_cut


def batches_of(sizes):
    row = 0
    for size in sizes:
        rows = np.arange(row, row + size)
        yield {"a": rows, "b": np.stack([rows, -rows], axis=1)}
        row += size


@given(
    st.lists(st.integers(0, 9), max_size=9), st.lists(st.integers(1, 13), min_size=1, max_size=9)
)
def test_rows_come_in_order_and_in_the_wanted_number(sizes, wanted):
    reader, seen = RowReader(batches_of(sizes)), 0
    for count in wanted:
        piece = reader.take(count)
        expected = min(count, sum(sizes) - seen)
        assert row_count(piece) == expected
        if not expected:
            assert piece == {}
            break
        assert piece["a"].tolist() == list(range(seen, seen + expected))
        assert (piece["b"][:, 1] == -piece["a"]).all()
        for row in piece["a"].tolist():
            batch = reader.batch_of(row)
            assert sum(sizes[:batch]) <= row < sum(sizes[: batch + 1])
        seen += expected


def test_rows_of_other_shapes_are_not_joined():
    steps = [np.zeros((2, 5)), np.zeros((3, 7))]
    reader = RowReader({"x": array} for array in steps)
    assert [reader.take(4)["x"].shape for _ in range(2)] == [(2, 5), (3, 7)]


@pytest.mark.parametrize(
    ("bytes_per_row", "expected"), [(0, 64), (1, 64), (400_000, 32), (8 << 20, 2), (9 << 20, 1)]
)
def test_large_rows_run_alone(bytes_per_row, expected):
    assert rows_per_run(bytes_per_row) == expected


@pytest.mark.parametrize(("row", "expected"), [(0, 8), (1, 7), (8, 8), (63, 1)])
def test_cuts_depend_on_the_row_number(row, expected):
    assert rows_until_cut(row, 8) == expected
