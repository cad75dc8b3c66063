"""Encodings of tabular inputs: columns side by side become one tensor (rows, k).

Numeric input, float32 throughout, k values per row:

    x = where(isnan(x), fill, x)                        missing values
    x = where(log, sign(x) * log(|x| + 1), x)           heavy tails
    y = clip((x - offset) * multiplier, -c, c)          scale

Categorical input: the 1-based position of the value in the column's sorted vocabulary, 0 for a
value that is missing or unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.signature import Arrays, Tensor
from qtool.data.statistics import signed_log
from qtool.data.values import (
    MISSING_INT,
    Float32,
    bad_value,
    categories,
    number_matrix,
    refuse_missing,
)

Vocabulary = tuple[int, ...] | tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NumericEncoding:
    """How numeric columns become one float32 tensor (rows, k).

    Attributes:
        columns: source columns, in order.
        widths: numbers per row of each column; k is their sum.
        fill: float32 (k,), replaces a missing value; None when a missing value is an error.
        log: bool (k,).
        offset: float32 (k,), subtracted.
        multiplier: float32 (k,).
        clip: limit of the absolute result.
    """

    columns: tuple[str, ...]
    widths: tuple[int, ...]
    fill: Float32 | None
    log: NDArray[np.bool_]
    offset: Float32
    multiplier: Float32
    clip: float | None

    def raw(self, block: Block) -> Float32:
        """Returns the columns side by side: float32 (rows, k), NaN where missing.

        Raises:
            DataError: an infinite value, or a missing one although there is no ``fill``.
        """
        return number_matrix(block, self.columns, allow_missing=self.fill is not None)

    def encode(self, name: str, block: Block) -> Arrays:
        """Returns the model input ``name``."""
        return {name: self.apply(self.raw(block))}

    def raw_inputs(self, name: str, block: Block) -> Arrays:
        """Returns what a graph with this encoding inside takes; see ``Encoder.raw_inputs``."""
        return {name: self.raw(block)}

    def signature(self, name: str) -> dict[str, Tensor]:
        """Returns dtype and shape of what ``encode`` makes."""
        return {name: Tensor("float32", (len(self.offset),))}

    def apply(self, x: Float32) -> Float32:
        """Returns the tensor for raw values ``x``; both float32 (rows, k)."""
        if self.fill is not None:
            x = np.where(np.isnan(x), self.fill, x)
        x = (signed_log(x, self.log) - self.offset) * self.multiplier
        return x if self.clip is None else np.clip(x, np.float32(-self.clip), np.float32(self.clip))


@dataclass(frozen=True)
class CategoricalEncoding:
    """How categorical columns become one integer tensor (rows, columns).

    ``vocabularies`` has the sorted values of each column; None when the columns hold codes already.
    """

    columns: tuple[str, ...]
    vocabularies: tuple[Vocabulary, ...] | None
    dtype: Literal["int64", "int32"] = "int64"

    def encode(self, name: str, block: Block) -> Arrays:
        """Returns the model input ``name``."""
        return {name: self.apply(block)}

    def signature(self, name: str) -> dict[str, Tensor]:
        """Returns dtype and shape of what ``encode`` makes."""
        return {name: Tensor(self.dtype, (len(self.columns),))}

    def apply(self, block: Block) -> NDArray[np.int64] | NDArray[np.int32]:
        """Returns the codes, of ``dtype`` (rows, columns).

        Raises:
            DataError: a missing value, or a code beyond ``dtype``, in a column that holds codes.
        """
        if self.vocabularies is None:
            codes = [_given_codes(block, column, self.dtype) for column in self.columns]
        else:
            codes = [
                _look_up(categories(block, column), vocabulary)
                for column, vocabulary in zip(self.columns, self.vocabularies, strict=True)
            ]
        return np.stack(codes, axis=1).astype(self.dtype)

    def raw_inputs(self, name: str, block: Block) -> Arrays:
        """Returns what a graph with this encoding inside takes; see ``Encoder.raw_inputs``."""
        if self.vocabularies is None:
            return {name: self.apply(block)}
        return {f"{name}.{column}": _raw_categories(block, column) for column in self.columns}


def _given_codes(block: Block, column: str, dtype: str) -> NDArray[np.int64]:
    values = categories(block, column)
    refuse_missing(block, column, values, "a code in every row, since encode is none")
    codes: NDArray[np.int64] = values.to_numpy()
    limits = np.iinfo(dtype)
    wrong = (codes < limits.min) | (codes > limits.max)
    if wrong.any():
        raise bad_value(block, column, int(wrong.argmax()), f"codes within {dtype}")
    return codes


def _look_up(values: pa.Array, vocabulary: Vocabulary) -> NDArray[np.int64]:
    positions = pc.index_in(values, value_set=pa.array(vocabulary, values.type))
    codes: NDArray[np.int32] = pc.fill_null(positions, -1).to_numpy(zero_copy_only=False)
    return codes.astype(np.int64) + 1


def _raw_categories(block: Block, column: str) -> NDArray[Any]:
    values = categories(block, column)
    missing = "" if values.type == pa.string() else MISSING_INT
    array: NDArray[Any] = pc.fill_null(values, missing).to_numpy(zero_copy_only=False)
    return array
