from __future__ import annotations

import decimal

import numpy as np
import pyarrow as pa
import pytest

from qtool.data.values import MISSING_INT, categories, number_matrix, numbers
from qtool.errors import DataError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, 2**24 + 1], [1, np.nan, 2**24]),
        ([0.1, None, float("nan")], [0.1, np.nan, np.nan]),
        ([True, None, False], [1, np.nan, 0]),
        ([decimal.Decimal("1.25"), None, decimal.Decimal(-3)], [1.25, np.nan, -3]),
        (pa.nulls(3), [np.nan] * 3),
    ],
)
def test_numbers_become_float32_with_nan_where_missing(make_block, values, expected) -> None:
    result = numbers(make_block({"a": values}), "a")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[:, 0], np.array(expected, np.float32))


def test_lists_keep_their_rows_when_sliced_or_null(make_block) -> None:
    lists = pa.array([[9, 9], [1, 2], None, [3, None]], pa.list_(pa.int16(), 2)).slice(1)
    result = numbers(make_block({"a": lists}), "a")
    nan = np.nan
    np.testing.assert_array_equal(result, np.array([[1, 2], [nan, nan], [3, nan]], np.float32))


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e300])
def test_infinite_numbers_name_column_and_row(make_block, value: float) -> None:
    block = make_block({"a": [1.0, value]}, first_row=70)
    with pytest.raises(DataError, match=r"table, column 'a', row 71 .*finite number"):
        numbers(block, "a")


def test_matrix_joins_columns_and_refuses_missing(make_block) -> None:
    block = make_block({"a": [1.0, None], "b": [3, 4]}, first_row=5)
    matrix = number_matrix(block, ("b", "a"), allow_missing=True)
    np.testing.assert_array_equal(matrix, np.array([[3, 1], [4, np.nan]], np.float32))
    with pytest.raises(DataError, match=r"column 'a', row 6 .*a missing value; expected a number"):
        number_matrix(block, ("b", "a"), allow_missing=False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5411, None, MISSING_INT], [5411, None, None]),
        ([5411.0, None, float("nan")], [5411, None, None]),
        ([True, False, None], [1, 0, None]),
        (["DE", None, ""], ["DE", None, None]),
        (pa.array(["DE", "FR", None]).dictionary_encode(), ["DE", "FR", None]),
        (pa.array([7, None, 8], pa.uint64()), [7, None, 8]),
    ],
)
def test_categories(make_block, values: object, expected: list[object]) -> None:
    assert categories(make_block({"a": values}), "a").to_pylist() == expected


@pytest.mark.parametrize(
    "values", [[1.0, 1.5], [1.0, 2.0**60], pa.array([1, 2**64 - 1], pa.uint64()), [1.0, np.inf]]
)
def test_numbers_that_are_no_categories(make_block, values: object) -> None:
    with pytest.raises(DataError, match=r"column 'a', row 1 .*categories"):
        categories(make_block({"a": values}), "a")
