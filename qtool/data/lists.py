"""Values of list columns as arrays, checked; a bad value is named with its column and row."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from qtool.config.data import Dtype
from qtool.data.blocks import Block
from qtool.data.values import bad_value, mask_of, place, to_float32
from qtool.errors import DataError

Numbers = NDArray[Any]
Lengths = NDArray[np.int64]


def steps(
    block: Block, columns: tuple[str, ...], dtype: Dtype, allow_missing: bool
) -> tuple[Lengths, Numbers]:
    """Returns the lists of all rows one after the other.

    Args:
        block: the rows.
        columns: list columns whose lists have equal lengths in each row.
        dtype: of the values.
        allow_missing: whether a float may be null or NaN.

    Returns:
        Steps of each row, int64 (rows,); values (all steps, k), NaN where a float is missing.

    Raises:
        DataError: a list is missing, two columns differ in length, or a number does not fit.
    """
    lengths: Lengths | None = None
    parts = []
    for column in columns:
        found, array = flattened(block, column)
        if lengths is None:
            lengths = found
        elif (lengths != found).any():
            index = int(np.argmax(lengths != found))
            raise bad_value(block, column, index, f"as many steps as {columns[0]!r} has there")
        rows = np.repeat(np.arange(len(found)), found)
        parts.append(_leaves(block, column, array, rows, dtype, allow_missing))
    assert lengths is not None
    return lengths, np.concatenate(parts, axis=1)


def flattened(block: Block, column: str) -> tuple[Lengths, pa.Array]:
    """Returns the steps of each row, int64 (rows,), and those of all rows one after the other.

    Raises:
        DataError: a list is missing.
    """
    array = _present(block, column, block.columns.column(column))
    lengths: Lengths = pc.cast(pc.list_value_length(array), pa.int64()).to_numpy()
    return lengths, array.flatten()


def tensor(
    block: Block, column: str, shape: tuple[int, ...], dtype: Dtype, allow_missing: bool
) -> Numbers:
    """Returns the arrays of one column, (rows, *shape), NaN where a float is missing.

    Raises:
        DataError: a row is missing or has another shape, or a number does not fit.
    """
    array = block.columns.column(column)
    rows = np.arange(len(array))
    for size in shape:
        array = _present(block, column, array, rows)
        wrong = pc.not_equal(pc.list_value_length(array), size)
        if pc.any(wrong).as_py():
            index = int(rows[mask_of(wrong).argmax()])
            raise bad_value(block, column, index, f"arrays of shape {shape}")
        array, rows = array.flatten(), np.repeat(rows, size)
    values = _leaves(block, column, array, rows, dtype, allow_missing)
    return values.reshape(len(block.rows), *shape)


def padded(
    values: Numbers, lengths: Lengths, length: int, keep: Literal["first", "last"], pad: float
) -> tuple[Numbers, NDArray[np.bool_]]:
    """Returns every row cut or padded to ``length`` steps, and which steps are real.

    Args:
        values: (all steps, k), the rows one after the other.
        lengths: steps of each row, int64 (rows,).
        length: steps of the result.
        keep: the steps that stay of a longer row.
        pad: fills shorter rows at their end.

    Returns:
        (rows, length, k) of the dtype of ``values``; bool (rows, length).
    """
    kept = np.minimum(lengths, length)
    first = np.cumsum(lengths) - lengths
    if keep == "last":
        first = first + lengths - kept
    real = np.arange(length) < kept[:, None]
    source = (first[:, None] + np.arange(length))[real]
    result = np.full((len(lengths), length, values.shape[1]), pad, values.dtype)
    result[real] = values[source]
    return result, real


def bad_step(
    block: Block,
    column: str,
    rows: NDArray[np.int64],
    wrong: NDArray[np.bool_],
    array: pa.Array,
    expected: str,
    action: str = "",
) -> DataError:
    """Returns the error for the first value that is ``wrong``.

    Args:
        block: with the column.
        column: of lists.
        rows: position in the block of the row of each value, increasing.
        wrong: of each value.
        array: the values.
        expected: what should be there.
        action: what to do.
    """
    index = int(wrong.argmax())
    row = int(rows[index])
    step = index - int(np.searchsorted(rows, row))
    found = array[index].as_py()
    return DataError(
        f"{place(block.source, column, int(block.rows[row]))}, value {step} of its list",
        "a missing value" if found is None else repr(found),
        expected,
        action,
    )


def _present(
    block: Block, column: str, array: pa.Array, rows: NDArray[np.int64] | None = None
) -> pa.Array:
    if array.null_count:
        index = int(mask_of(array.is_null()).argmax())
        index = index if rows is None else int(rows[index])
        raise bad_value(
            block, column, index, "a list in every row", "Write an empty list for no steps."
        )
    return array


def _leaves(
    block: Block,
    column: str,
    array: pa.Array,
    rows: NDArray[np.int64],
    dtype: Dtype,
    allow_missing: bool,
) -> Numbers:
    """Returns numbers, or fixed-size lists of them, as (len(array), k)."""
    k = 1
    if pat.is_fixed_size_list(array.type):
        k = array.type.list_size
        array = _present(block, column, array, rows).flatten()
        rows = np.repeat(rows, k)
    if dtype == "float32":
        return _floats(block, column, array, rows, allow_missing).reshape(-1, k)
    return _integers(block, column, array, rows, dtype).reshape(-1, k)


def _floats(
    block: Block, column: str, array: pa.Array, rows: NDArray[np.int64], allow_missing: bool
) -> Numbers:
    values = to_float32(array)
    infinite = np.isinf(values)
    if infinite.any():
        raise bad_step(block, column, rows, infinite, array, "a finite number within float32")
    missing = np.isnan(values)
    if missing.any() and not allow_missing:
        action = "Set missing: mean or zero on the input."
        raise bad_step(block, column, rows, missing, array, "a number", action)
    return values


def _integers(
    block: Block, column: str, array: pa.Array, rows: NDArray[np.int64], dtype: Dtype
) -> Numbers:
    if array.null_count:
        missing = mask_of(array.is_null())
        raise bad_step(block, column, rows, missing, array, "a number in every step")
    values: Numbers = array.to_numpy(zero_copy_only=False)
    limits = np.iinfo(np.int64 if dtype == "bool" else dtype)
    wrong = (values > limits.max) | (values < limits.min)
    if values.dtype != np.bool_ and wrong.any():
        raise bad_step(block, column, rows, wrong, array, f"integers within {dtype}")
    return values.astype(dtype)
