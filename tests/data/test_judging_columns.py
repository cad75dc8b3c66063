from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from qtool.data.blocks import Block
from qtool.data.judging_columns import (
    MISSING,
    check_judging_columns,
    missing_of,
    read_judging_column,
)
from qtool.errors import DataError


class Table:
    name = "table"

    def __init__(self, **columns: pa.Array) -> None:
        self.record = pa.record_batch(list(columns.values()), list(columns))
        self.schema = self.record.schema

    def read(self, column):
        block = Block("table", np.arange(self.record.num_rows), self.record)
        return read_judging_column(block, column).tolist()


TABLE = Table(
    amount=pa.array([1, None, 3]),
    query=pa.array([True, False, None]),
    text=pa.array(["a", None, "b"]).dictionary_encode(),
    day=pa.array([datetime.date(2026, 1, 2), None, datetime.date(2026, 1, 3)]),
    time=pa.array([10**6, None, 2 * 10**6], pa.timestamp("us")),
    zone=pa.array([10**6, None, 2 * 10**6], pa.timestamp("us", "America/New_York")),
    history=pa.array([[1.0, 2.0], None, []], pa.list_(pa.float32())),
    nested=pa.array([[["a"]], None, []]),
)


def test_texts_numbers_dates_and_lists():
    assert TABLE.read("text") == ["a", "missing", "b"]
    assert TABLE.read("day") == [datetime.date(2026, 1, 2), None, datetime.date(2026, 1, 3)]
    second = datetime.datetime(1970, 1, 1, 0, 0, 1)
    assert TABLE.read("time") == [second, None, second + datetime.timedelta(seconds=1)]
    assert TABLE.read("zone") == TABLE.read("time")
    np.testing.assert_array_equal(TABLE.read("amount"), [1, np.nan, 3])
    np.testing.assert_array_equal(TABLE.read("query"), [1, 0, np.nan])
    assert [array.tolist() for array in TABLE.read("history")] == [[1, 2], [], []]


def test_no_text_is_taken_for_a_missing_value_or_for_the_rare_ones():
    texts = ["missing", None, "'missing'", "other", "another", "missing data", "''"]
    read = Table(text=pa.array(texts)).read("text")
    assert read[1] == MISSING == "missing"
    assert len(set(read)) == len(texts)
    assert [read[0], *read[2:]] == [
        *("'missing'", "''missing''", "'other'"),
        *texts[4:],
    ]


def test_which_rows_have_no_value():
    for column in ("amount", "text", "day", "time"):
        block = Block("table", np.arange(3), TABLE.record)
        assert missing_of(read_judging_column(block, column)).tolist() == [False, True, False]


def test_columns_are_checked_before_a_row_is_read():
    check_judging_columns(TABLE, ["amount", "query", "text", "day", "time", "history"])
    with pytest.raises(DataError, match="no column 'Amount' \\(did you mean 'amount'"):
        check_judging_columns(TABLE, ["Amount"])
    with pytest.raises(DataError, match="column 'nested': values of type"):
        check_judging_columns(TABLE, ["nested"])
