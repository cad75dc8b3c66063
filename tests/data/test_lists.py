from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.data.lists import padded, steps, tensor
from qtool.errors import DataError


def test_steps_by_hand(make_block) -> None:
    block = make_block({"a": [[1, 2], [], [3]], "b": [[0.5, 1.5], [], [2.5]]})
    lengths, values = steps(block, ("a", "b"), "float32", False)
    assert lengths.tolist() == [2, 0, 1]
    assert values.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert values.dtype == np.float32
    _, whole = steps(block, ("a",), "int64", False)
    assert (whole.dtype, whole.tolist()) == (np.int64, [[1], [2], [3]])


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int32(), 2),
        pa.list_(pa.int64()),
        pa.large_list(pa.uint16()),
    ],
)
def test_every_kind_of_list_in_a_slice(make_block, kind: pa.DataType) -> None:
    whole = pa.record_batch({"a": pa.array([[1, 2], [3, 4], [5, 6]], kind)})
    block = make_block({"a": whole.slice(1, 2).column("a")})
    lengths, values = steps(block, ("a",), "int32", False)
    assert lengths.tolist() == [2, 2]
    assert values.ravel().tolist() == [3, 4, 5, 6]
    assert tensor(block, "a", (2,), "bool", False).dtype == np.bool_


def test_steps_of_several_numbers(make_block) -> None:
    kind = pa.list_(pa.list_(pa.float64(), 2))
    block = make_block({"a": pa.array([[[1, 2], [3, 4]], []], kind)})
    lengths, values = steps(block, ("a",), "float32", False)
    assert lengths.tolist() == [2, 0]
    assert values.tolist() == [[1, 2], [3, 4]]


def test_missing_numbers_are_nan_where_allowed(make_block) -> None:
    block = make_block({"a": [[1.0, None], [float("nan")]]})
    _, values = steps(block, ("a",), "float32", True)
    np.testing.assert_array_equal(values[:, 0], [1, np.nan, np.nan])


@pytest.mark.parametrize(
    ("columns", "dtype", "message"),
    [
        ({"a": [[1.0], None]}, "float32", r"column 'a', row 6 .*a missing value; .*empty list"),
        ({"a": [[1.0], [2.0, None]]}, "float32", r"row 6 .*value 1 of its list: a missing value"),
        ({"a": [[1.0], [2.0, np.nan]]}, "float32", r"row 6 .*value 1 of its list: nan"),
        ({"a": [[], [2.0, np.inf]]}, "float32", r"row 6 .*value 1 of its list: inf"),
        ({"a": [[], [2, None]]}, "int64", r"row 6 .*value 1 of its list: a missing value"),
        ({"a": [[2**31], []]}, "int32", r"row 5 .*value 0 of its list: 2147483648; .*within int32"),
        ({"a": [[1], [2]], "b": [[1], [2, 3]]}, "int64", r"column 'b', row 6 .*as many steps"),
    ],
)
def test_bad_lists_are_named(make_block, columns, dtype, message) -> None:
    with pytest.raises(DataError, match=message):
        steps(make_block(columns, first_row=5), tuple(columns), dtype, False)


def test_tensors_of_nested_lists(make_block) -> None:
    fixed = pa.list_(pa.list_(pa.float32(), 3), 2)
    rows = np.arange(12.0).reshape(2, 2, 3)
    for kind in (fixed, pa.list_(pa.list_(pa.float64()))):
        block = make_block({"a": pa.array(rows.tolist(), kind)})
        np.testing.assert_array_equal(tensor(block, "a", (2, 3), "float32", False), rows)
    scalar = make_block({"a": [4, 5]})
    assert tensor(scalar, "a", (), "int64", False).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[[1, 2]], [[3]]], r"row 1 .*arrays of shape \(1, 2\)"),
        ([[[1, 2]], [[3, 4], [5, 6]]], r"row 1 .*arrays of shape"),
        ([[[1, 2]], None], r"row 1 .*a missing value"),
        ([[None], [[1, 2]]], r"row 0 .*a list in every row"),
    ],
)
def test_tensors_of_another_shape_are_named(make_block, rows, message) -> None:
    block = make_block({"a": pa.array(rows, pa.list_(pa.list_(pa.int64())))})
    with pytest.raises(DataError, match=message):
        tensor(block, "a", (1, 2), "int64", False)


@given(
    st.lists(st.lists(st.integers(1, 99), max_size=6), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from(["first", "last"]),
)
def test_padding_against_plain_python(rows, length, keep) -> None:
    values = np.array([number for row in rows for number in row], np.int64).reshape(-1, 1)
    lengths = np.array([len(row) for row in rows])
    array, real = padded(values, lengths, length, keep, -1)
    for row, found, steps_of_row in zip(rows, array[:, :, 0], real, strict=True):
        kept = row[:length] if keep == "first" else row[-length:]
        assert found.tolist() == kept + [-1] * (length - len(kept))
        assert steps_of_row.tolist() == [True] * len(kept) + [False] * (length - len(kept))
