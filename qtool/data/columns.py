"""Which columns a configuration needs, and whether a source has them with fitting types.

Checked against the schema before any row is read; only to quote the first text of a column that
should be numeric is that column read.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

import pyarrow as pa
import pyarrow.types as pat

from qtool.config.data import (
    CategoricalInput,
    ConstantInput,
    Data,
    HashSplit,
    NumericInput,
    SequenceInput,
    TensorInput,
    TimeSplit,
)
from qtool.data.list_types import dtype_of, list_shape, step_width, tensor_shape
from qtool.data.source import Source
from qtool.errors import DataError

SCAN_ROWS = 8192


def needed_columns(data: Data) -> tuple[str, ...]:
    """Returns the columns to read: label, inputs and the split's column, each once."""
    inputs = [name for part in data.inputs.values() for name in part.columns]
    return tuple(dict.fromkeys([*data.label_columns, *inputs, *split_columns(data)]))


def split_columns(data: Data) -> tuple[str, ...]:
    """Returns the column that tells a row's split; none where the row number does."""
    column = data.split.key if isinstance(data.split, HashSplit) else data.split.column
    return () if column is None else (column,)


def check_columns(source: Source, data: Data) -> None:
    """Checks that ``source`` has every needed column, with a type that fits its use.

    Raises:
        DataError: columns are missing (all of them in one error), the label is also an input, or a
            column has a type that its use cannot take.
    """
    require_columns(source, needed_columns(data))
    for name, part in data.inputs.items():
        answers = [column for column in data.label_columns if column in part.columns]
        if answers:
            raise DataError(
                source.name,
                f"the label {answers[0]!r} is a column of input {name!r} too",
                "inputs that do not contain the answer",
                f"Remove it from data.inputs.{name}.columns.",
            )
        for column in part.columns:
            if isinstance(part, NumericInput):
                _check_numeric(source, column)
            elif isinstance(part, CategoricalInput):
                _check_categorical(source, column, part)
            elif not isinstance(part, ConstantInput):  # which has no columns
                _check_nested(source, column, part)
        if isinstance(part, SequenceInput) and part.pad % 1 and _makes_integers(source, part):
            raise DataError(
                f"data.inputs.{name}.pad", f"{part.pad}", "an integer, as the columns hold"
            )
    _check_split(source, data.split)


def require_columns(source: Source, needed: Iterable[str]) -> None:
    """Checks that a source has all of some columns.

    Raises:
        DataError: some are missing; it names them, and what could have been meant.
    """
    existing = source.schema.names
    missing = [name for name in needed if name not in existing]
    if not missing:
        return
    suggestions = []
    for name in missing:
        lower = {column.lower(): column for column in reversed(existing)}
        close = difflib.get_close_matches(name.lower(), lower, n=1)
        suggestions.append(f"{name!r}" + (f" (did you mean {lower[close[0]]!r}?)" if close else ""))
    raise DataError(
        source.name,
        f"no column {', '.join(suggestions)}",
        f"columns of the data: {', '.join(existing)}",
        "Correct the names in the config.",
    )


def is_number(kind: pa.DataType) -> bool:
    """Returns whether values of this type are numbers (booleans count as 0 and 1)."""
    return bool(
        pat.is_integer(kind)
        or pat.is_floating(kind)
        or pat.is_boolean(kind)
        or pat.is_decimal(kind)
        or pat.is_null(kind)
    )


def is_integer(kind: pa.DataType) -> bool:
    """Returns whether values of this type are integers; booleans are not."""
    return bool(pat.is_integer(kind))


def category_kind(kind: pa.DataType) -> Literal["int", "str"] | None:
    """Returns how categories of this column type are held, or None when it cannot hold categories.

    Floats count as integers, since that is how data frames store integers with missing values.
    """
    if pat.is_dictionary(kind):
        return category_kind(kind.value_type)
    if pat.is_integer(kind) or pat.is_boolean(kind) or pat.is_floating(kind) or pat.is_null(kind):
        return "int"
    return "str" if is_text(kind) else None


def is_text(kind: pa.DataType) -> bool:
    """Returns whether the values are text."""
    if pat.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or pat.is_string_view(kind))


def width(schema: pa.Schema, column: str) -> int:
    """Returns how many numbers one row of a numeric column holds."""
    kind = schema.field(column).type
    return int(kind.list_size) if pat.is_fixed_size_list(kind) else 1


def _check_numeric(source: Source, column: str) -> None:
    kind = source.schema.field(column).type
    element = kind.value_type if pat.is_fixed_size_list(kind) else kind
    if is_text(kind):
        row, text = _first_text(source, column)
        raise DataError(
            f"{source.name}, column {column!r}, row {row}",
            f"the text {text!r}",
            "numbers, as an input of kind numeric",
            "Correct the data, or make it an input of kind categorical.",
        )
    if not is_number(element):
        refuse_type(source, column, "numbers, as an input of kind numeric")


def _first_text(source: Source, column: str) -> tuple[int, str | None]:
    """Returns row and text of the first value that is no number, else of the first value."""
    row, first = 0, None
    for batch in source.batches([column], SCAN_ROWS):
        for text in batch.column(0).to_pylist():
            first = first or (row, text)
            if text and not _reads_as_number(text):
                return row, text
            row += 1
    return first or (0, None)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_categorical(source: Source, column: str, part: CategoricalInput) -> None:
    kind = category_kind(source.schema.field(column).type)
    if kind is None:
        refuse_type(source, column, "integers or text, as an input of kind categorical")
    if kind == "str" and part.encode == "none":
        refuse_type(source, column, "integer codes, since encode is none")


def _check_nested(source: Source, column: str, part: SequenceInput | TensorInput) -> None:
    """Checks that a column has lists of the right depth, and numbers that become ``dtype``."""
    kind = source.schema.field(column).type
    if isinstance(part, SequenceInput):
        if step_width(kind) is None:
            refuse_type(source, column, "lists of numbers, or of fixed-size lists of numbers")
    elif tensor_shape(part, kind) is None:
        given = "no data.inputs shape" if part.shape is None else f"shape {part.shape}"
        refuse_type(
            source,
            column,
            f"lists of a fixed size or of the shape that the config names, which names {given}",
        )
    element = list_shape(kind)[1]
    dtype = dtype_of(part, source.schema)
    takes = {"float32": is_number, "bool": pat.is_boolean}.get(dtype, _is_whole)
    if not takes(element):
        refuse_type(source, column, f"lists of numbers that become {dtype}")


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pat.is_integer(kind) or pat.is_boolean(kind))


def _makes_integers(source: Source, part: SequenceInput) -> bool:
    return dtype_of(part, source.schema) != "float32"


def _check_split(source: Source, split: HashSplit | TimeSplit) -> None:
    if isinstance(split, HashSplit):
        if split.key is not None and category_kind(source.schema.field(split.key).type) is None:
            refuse_type(source, split.key, "integers or text, as the key of the split")
        return
    kind = source.schema.field(split.column).type
    if not (
        pat.is_integer(kind) or pat.is_floating(kind) or pat.is_timestamp(kind) or pat.is_date(kind)
    ):
        refuse_type(
            source, split.column, "timestamps, dates or numbers, as the column of the time split"
        )


def refuse_type(source: Source, column: str, expected: str, action: str = "") -> None:
    """Raises the DataError for a column whose type is not what is ``expected``."""
    kind = source.schema.field(column).type
    raise DataError(f"{source.name}, column {column!r}", f"values of type {kind}", expected, action)
