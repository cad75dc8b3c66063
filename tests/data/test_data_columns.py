from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from qtool.data.columns import check_columns, needed_columns, width
from qtool.errors import DataError


def test_needed_columns_once_each(make_data) -> None:
    inputs = {"x": {"columns": ["a", "b"]}, "z": {"kind": "categorical", "columns": ["a", "c"]}}
    data = make_data(inputs, split={"by": "hash", "key": "c"})
    assert needed_columns(data) == ("y", "a", "b", "c")


def test_all_missing_columns_in_one_error(make_source, make_data) -> None:
    source = make_source({"LIMIT_BAL": [1.0], "AGE": [2], "y": [0]})
    data = make_data({"x": {"columns": ["limit_bal", "AGE", "zzz"]}})
    with pytest.raises(DataError) as error:
        check_columns(source, data)
    text = str(error.value)
    assert "'limit_bal' (did you mean 'LIMIT_BAL'?), 'zzz'" in text
    assert "LIMIT_BAL, AGE, y" in text


@pytest.mark.parametrize("label", ["y", ["z", "y"]])
def test_label_among_the_inputs(make_source, make_data, label: object) -> None:
    data = make_data({"x": {"columns": ["y"]}}, label=label)
    with pytest.raises(DataError, match=r"label 'y' is a column of .* contain the answer"):
        check_columns(make_source({"y": [0, 1], "z": [0, 1]}), data)


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [1.5, None],
        [True, False],
        [decimal.Decimal("1.5"), None],
        pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        pa.nulls(2),
    ],
)
def test_types_that_are_numbers(make_source, make_data, values: object) -> None:
    check_columns(make_source({"a": values, "y": [0, 1]}), make_data({"x": {"columns": ["a"]}}))


def test_text_in_a_numeric_column_is_quoted_with_its_row(make_source, make_data) -> None:
    words = [str(n) for n in range(50)]
    words[33] = "n/a"
    source = make_source({"a": [None, *words], "y": [0] * 51})
    with pytest.raises(DataError, match=r"column 'a', row 34: the text 'n/a'; expected numbers"):
        check_columns(source, make_data({"x": {"columns": ["a"]}}))


def test_numbers_stored_as_text(make_source, make_data) -> None:
    source = make_source({"a": ["1", "2"], "y": [0, 1]})
    with pytest.raises(DataError, match="row 0: the text '1'"):
        check_columns(source, make_data({"x": {"columns": ["a"]}}))


@pytest.mark.parametrize(
    ("values", "part", "message"),
    [
        ([datetime.date(2024, 1, 1)], {"columns": ["a"]}, r"date32\[day\]; expected numbers"),
        ([b"x"], {"kind": "categorical", "columns": ["a"]}, "integers or text"),
        (["x"], {"kind": "categorical", "columns": ["a"], "encode": "none"}, "encode is none"),
    ],
)
def test_types_that_do_not_fit(make_source, make_data, values, part, message) -> None:
    with pytest.raises(DataError, match=message):
        check_columns(make_source({"a": values, "y": [0]}), make_data({"x": part}))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"by": "time", "column": "words"}, "time split"),
        ({"by": "hash", "key": "raw"}, "key of the split"),
    ],
)
def test_type_of_the_split_column(make_source, make_data, split, message) -> None:
    source = make_source({"a": [1.0], "y": [1], "words": ["now"], "raw": [b"1"]})
    with pytest.raises(DataError, match=message):
        check_columns(source, make_data({"x": {"columns": ["a"]}}, split=split))


def test_width(make_source) -> None:
    lists = pa.array(np.zeros((2, 3)).tolist(), pa.list_(pa.float64(), 3))
    schema = make_source({"a": [1, 2], "b": lists}).schema
    assert (width(schema, "a"), width(schema, "b")) == (1, 3)
