"""Values of one column as arrays, checked; a bad value is named with its column and row."""

from __future__ import annotations

import reprlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.columns import is_text
from qtool.data.hashing import hash_texts
from qtool.errors import DataError

Float32 = NDArray[np.float32]
MISSING_INT = -(2**63)
"""Stands for a missing integer category where there are no nulls."""


def place(source: str, column: str, row: int) -> str:
    """Returns how messages name one value."""
    return f"{source}, column {column!r}, row {row} (the first row is 0)"


def bad_value(block: Block, column: str, index: int, expected: str, action: str = "") -> DataError:
    """Returns the error for the value at position ``index`` of the block."""
    value = block.columns.column(column)[index].as_py()
    missing = value is None or value == "" or value != value  # noqa: PLR0124 (NaN)
    # A list may be long.
    text = reprlib.repr(value) if isinstance(value, list) else repr(value)
    found = "a missing value" if missing else text
    return DataError(place(block.source, column, int(block.rows[index])), found, expected, action)


def refuse_missing(block: Block, column: str, values: pa.Array, expected: str) -> None:
    """Raises the DataError for the first null of ``values``, which are those of the block."""
    if values.null_count:
        raise bad_value(block, column, int(mask_of(values.is_null()).argmax()), expected)


def numbers(block: Block, column: str) -> Float32:
    """Returns the values as float32 of shape (rows, width), NaN where missing.

    Raises:
        DataError: a value is infinite, or too large for float32.
    """
    array = block.columns.column(column)
    if pat.is_fixed_size_list(array.type):
        size = array.type.list_size
        flat = array.values.slice(array.offset * size, len(array) * size)
        values = to_float32(flat).reshape(len(array), size)
        if array.null_count:
            values = np.where(mask_of(array.is_null())[:, None], np.float32(np.nan), values)
    else:
        values = to_float32(array).reshape(-1, 1)
    infinite = np.isinf(values).any(axis=1)
    if infinite.any():
        raise bad_value(block, column, int(infinite.argmax()), "a finite number within float32")
    return values


def to_float32(array: pa.Array) -> Float32:
    """Returns the numbers of an Arrow array as float32, NaN where missing."""
    # safe=False rounds integers beyond 2**24, as every float32 model input does.
    floats = pc.cast(array, pa.float32(), safe=False)
    values: Float32 = pc.fill_null(floats, np.nan).to_numpy(zero_copy_only=False)
    return values


def mask_of(array: pa.Array) -> NDArray[np.bool_]:
    """Returns an Arrow array of booleans without nulls as bool."""
    mask: NDArray[np.bool_] = array.to_numpy(zero_copy_only=False)
    return mask


def number_matrix(block: Block, columns: tuple[str, ...], allow_missing: bool) -> Float32:
    """Returns numeric columns side by side: float32 (rows, k), NaN where missing.

    Raises:
        DataError: a value is infinite, or missing although ``allow_missing`` is false.
    """
    parts = [numbers(block, column) for column in columns]
    if not allow_missing:
        for column, part in zip(columns, parts, strict=True):
            missing = np.isnan(part).any(axis=1)
            if missing.any():
                raise bad_value(
                    block,
                    column,
                    int(missing.argmax()),
                    "a number",
                    "Set missing: mean or zero on the input.",
                )
    return np.concatenate(parts, axis=1)


def categories(block: Block, column: str) -> pa.Array:
    """Returns the values as an int64 or a string array, null where missing.

    Empty text and -2**63 are missing, because the form of the encoder that lives in the graph has
    no nulls and uses them in their place (``encoding.Encoder.raw_inputs``).

    Raises:
        DataError: a float is not an exact integer, or an integer does not fit int64.
    """
    array = block.columns.column(column)
    if is_text(array.type):
        return texts_of(array)
    if pat.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pat.is_floating(array.type):
        return _integers_in_floats(block, column, array)
    if pat.is_uint64(array.type):
        large = mask_of(pc.fill_null(pc.greater(array, pa.scalar(2**63 - 1, pa.uint64())), False))
        if large.any():
            raise bad_value(block, column, int(large.argmax()), "categories within int64")
    integers = pc.cast(array, pa.int64())
    return pc.if_else(pc.equal(integers, MISSING_INT), pa.scalar(None, pa.int64()), integers)


def texts_of(array: pa.Array) -> pa.Array:
    """Returns text of any Arrow type as strings, null where it is missing or empty."""
    if pat.is_dictionary(array.type):
        array = array.dictionary_decode()
    texts = pc.cast(array, pa.string())
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)


def text_hashes(texts: pa.Array) -> NDArray[np.uint64]:
    """Returns ``hash_texts`` of a string array without nulls; each text is hashed once."""
    unique = pc.dictionary_encode(texts)
    digests = hash_texts(unique.dictionary.to_pylist())
    places: NDArray[np.int32] = unique.indices.to_numpy()
    return np.take(digests, places)


def _integers_in_floats(block: Block, column: str, array: pa.Array) -> pa.Array:
    floats = pc.fill_null(pc.cast(array, pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    # Beyond 2**53 neighbouring integers share one float: two categories would silently become one.
    wrong = ~np.isnan(floats) & ((floats != np.trunc(floats)) | (np.abs(floats) > 2.0**53))
    if wrong.any():
        raise bad_value(block, column, int(wrong.argmax()), "integers or text, as categories")
    return pc.cast(pa.array(floats, from_pandas=True), pa.int64())
