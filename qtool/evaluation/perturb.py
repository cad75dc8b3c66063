"""Rows with one raw column set to another value, and encoded again as any row is.

The values are those of reference rows (of the calibration split), so a changed row is one that the
source could hold: whole numbers stay whole, categories are known ones, types are the source's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.columns import is_text
from qtool.data.encoding import Encoder
from qtool.data.signature import Arrays
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.data.values import categories, mask_of, numbers
from qtool.errors import ConfigError, DataError
from qtool.evaluation.sample import Predictions

Score = Callable[[Arrays], tuple[Predictions, Predictions]]
"""Model inputs of some rows → what FP32 and what INT8 make of them, as ``sample`` says."""


def raw_columns(encoder: Encoder) -> tuple[str, ...]:
    """Returns the columns that the model inputs are made of, each once."""
    return tuple(dict.fromkeys(name for part in encoder.inputs.values() for name in part.columns))


def typical_row(reference: Block, encoder: Encoder, column: str, where: str) -> int:
    """Returns the position of a reference row with the column's typical value.

    That is the lower median of the numbers that are not missing; of categories the most frequent
    one, of which missing is one, since the encoder gives it a code like any other.

    Args:
        reference: rows, at least one.
        encoder: reads the column.
        column: raw column.
        where: key of the config that asks for it, for messages.

    Raises:
        ConfigError: no model input reads the column, or it holds lists.
    """
    if _is_numeric(encoder, column, where):
        values = numbers(reference, column)[:, 0]
        order = np.argsort(values, kind="stable")  # NaN last
        present = int((~np.isnan(values)).sum())
        return int(order[max(present - 1, 0) // 2])
    found = categories(reference, column).dictionary_encode("encode").indices.to_numpy()
    return int((found == np.bincount(found).argmax()).argmax())


def spread_rows(
    reference: Block, encoder: Encoder, column: str, points: int, where: str
) -> NDArray[np.int64]:
    """Returns positions of reference rows whose values of the column increase strictly.

    Args:
        reference: rows.
        encoder: reads the column: numbers, or categories that are integers.
        column: raw column.
        points: at most so many rows: of a column with more different values, those at its quantiles
            0, 1 / (points - 1), …, 1 (each the smallest value with that share at or below it), of
            which equal ones count once.
        where: key of the config that asks for it, for messages.

    Raises:
        ConfigError: no model input reads the column, or it holds lists or texts.
        DataError: all reference rows have the same value.
    """
    if _is_numeric(encoder, column, where):
        values: NDArray[Any] = numbers(reference, column)[:, 0]
        rows = np.flatnonzero(~np.isnan(values))
        values = values[rows]
    else:
        if is_text(reference.columns.schema.field(column).type):
            found = f"column {column!r} of texts, which have no order"
            raise ConfigError(where, found, "numbers or integer categories")
        array = categories(reference, column)
        rows = np.flatnonzero(mask_of(array.is_valid()))
        values = array.drop_null().to_numpy()
    different, first = np.unique(values, return_index=True)
    if len(different) > points:
        shares = np.linspace(0, 1, points)
        quantiles = np.unique(np.quantile(values, shares, method="inverted_cdf"))
        first = first[np.searchsorted(different, quantiles)]
    if len(first) < 2:
        raise DataError(
            f"{reference.source}, column {column!r}",
            "the same value in every calibration row",
            "values to vary it between",
            f"Remove {where}.",
        )
    return rows[first].astype(np.int64)


def replaced(block: Block, column: str, reference: Block, row: int) -> Block:
    """Returns ``block`` with the value of one reference row in every row of a column.

    Args:
        block: rows.
        column: raw column.
        reference: rows of the same source.
        row: position in ``reference``.
    """
    values = reference.columns.column(column).take(np.full(len(block.rows), row))
    index = block.columns.schema.get_field_index(column)
    field = block.columns.schema.field(index)
    return Block(block.source, block.rows, block.columns.set_column(index, field, values))


def scores_of(
    score: Score, inputs: Arrays, where: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns one score per row of FP32 and of INT8, float64 (rows,).

    Raises:
        ConfigError: the task has several outputs per row.
    """
    fp32, int8 = (found.reshape(len(found), -1).astype(np.float64) for found in score(inputs))
    if fp32.shape[1] != 1:
        raise ConfigError(
            where, f"a model with {fp32.shape[1]} outputs per row", "one score per row"
        )
    return fp32[:, 0], int8[:, 0]


def _is_numeric(encoder: Encoder, column: str, where: str) -> bool:
    """Returns whether numbers are read from the column; categories otherwise."""
    parts = [part for part in encoder.inputs.values() if column in part.columns]
    if not parts:
        known = ", ".join(raw_columns(encoder))
        found = f"column {column!r}, which no model input reads"
        raise ConfigError(where, found, f"one of {known}")
    numeric = [part for part in parts if isinstance(part, NumericEncoding)]
    single = all(part.widths[part.columns.index(column)] == 1 for part in numeric)
    if not single or any(
        not isinstance(part, NumericEncoding | CategoricalEncoding) for part in parts
    ):
        raise ConfigError(where, f"column {column!r} of lists", "one number or category per row")
    return bool(numeric)
