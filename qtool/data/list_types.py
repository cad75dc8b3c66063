"""What a column of lists holds, told from its Arrow type: shape and kind of number."""

from __future__ import annotations

from typing import TypeGuard

import pyarrow as pa
import pyarrow.types as pat

from qtool.config.data import Data, Dtype, Nested, SequenceInput, TensorInput

NESTED_BLOCK_ROWS = 512
"""Rows read at a time where a row may hold thousands of values."""

Shape = tuple[int | None, ...]


def is_nested(part: object) -> TypeGuard[SequenceInput | TensorInput]:
    """Returns whether an input section is made of lists."""
    return isinstance(part, SequenceInput | TensorInput)


def block_rows(data: Data, rows: int) -> int:
    """Returns how many rows to read at a time: ``rows``, or fewer where rows are large."""
    nested = any(is_nested(part) for part in data.inputs.values())
    return min(rows, NESTED_BLOCK_ROWS) if nested else rows


def list_shape(kind: pa.DataType) -> tuple[Shape, pa.DataType]:
    """Returns the shape of one row (None where lists vary in length) and the innermost type."""
    shape: list[int | None] = []
    while _is_list(kind):
        shape.append(int(kind.list_size) if pat.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    return tuple(shape), kind


def step_width(kind: pa.DataType) -> int | None:
    """Returns the numbers per step of a column of sequences, None when it cannot be one."""
    shape, _ = list_shape(kind)
    if len(shape) == 1:
        return 1
    return shape[1] if len(shape) == 2 else None


def is_stacked(part: SequenceInput, schema: pa.Schema) -> bool:
    """Returns whether the tensor has a last axis for the numbers of a step."""
    lists_of_lists = any(len(list_shape(schema.field(c).type)[0]) > 1 for c in part.columns)
    return part.stack or len(part.columns) > 1 or lists_of_lists


def tensor_shape(part: TensorInput, kind: pa.DataType) -> tuple[int, ...] | None:
    """Returns the shape of one row, None when type and ``shape`` do not tell it or disagree."""
    found, _ = list_shape(kind)
    if part.shape is None:
        known = tuple(size for size in found if size is not None)
        return known if len(known) == len(found) else None
    given = tuple(part.shape)
    fits = len(given) == len(found) and all(
        size in (None, wanted) for size, wanted in zip(found, given, strict=True)
    )
    return given if fits else None


def dtype_of(part: Nested, schema: pa.Schema) -> Dtype:
    """Returns the dtype that the columns of ``part`` become."""
    if part.dtype is not None:
        return part.dtype
    kinds = [list_shape(schema.field(column).type)[1] for column in part.columns]
    if part.changes_values or not all(pat.is_integer(k) or pat.is_boolean(k) for k in kinds):
        return "float32"
    return "bool" if all(pat.is_boolean(kind) for kind in kinds) else "int64"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind))
