"""Columns that no model sees: by their values the evaluation tells rows apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.columns import is_number, is_text, refuse_type, require_columns
from qtool.data.source import Source

MISSING = "missing"
RESERVED = f"^'*({MISSING}|other)'*$"
"""Texts as which reports name rows without a value, and of rare values together."""


def check_judging_columns(source: Source, columns: Sequence[str]) -> None:
    """Checks that a source has the columns, with values that can be told apart or counted.

    Raises:
        DataError: a column is missing, or holds neither numbers, texts nor lists of numbers.
    """
    require_columns(source, columns)
    for column in columns:
        kind = source.schema.field(column).type
        dated = pat.is_date(kind) or pat.is_timestamp(kind)
        listed = (pat.is_list(kind) or pat.is_fixed_size_list(kind)) and is_number(kind.value_type)
        if not (is_number(kind) or is_text(kind) or dated or listed):
            refuse_type(source, column, "numbers, texts, dates or lists of numbers")


def read_judging_column(block: Block, column: str) -> NDArray[Any]:
    """Returns the values of a column that ``check_judging_columns`` has seen.

    Numbers are float64 (rows,), NaN where missing; dates and times are datetime64 (rows,) in their
    own unit, those with a zone in UTC, NaT where missing; texts are str (rows,) as objects,
    ``MISSING`` where they are, so that a text of that name is put in quotes; lists are float32
    arrays (rows,) as objects, empty where missing.
    """
    values = block.columns.column(column)
    if pat.is_list(values.type) or pat.is_fixed_size_list(values.type):
        lists = np.empty(len(values), object)
        for row, found in enumerate(values.to_pylist()):
            lists[row] = np.asarray(found or [], np.float32)
        return lists
    if is_number(values.type):
        values = pc.cast(values, pa.float64(), safe=False)
    elif not pat.is_temporal(values.type):
        texts = pc.cast(values, pa.string())
        quoted = pc.binary_join_element_wise("'", texts, "'", "")
        kept = pc.if_else(pc.match_substring_regex(texts, RESERVED), quoted, texts)
        values = pc.fill_null(kept, MISSING)
    return np.asarray(values.to_numpy(zero_copy_only=False))


def missing_of(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns where a column has no value, bool (rows,); one of lists always has.

    Args:
        values: as ``read_judging_column`` returns them.
    """
    if values.dtype == object:
        return np.asarray(values == MISSING)
    return np.asarray(np.isnat(values) if values.dtype.kind == "M" else np.isnan(values))
