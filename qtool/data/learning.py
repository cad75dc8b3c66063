"""Learners: what one input's encoding learns from the blocks of the training split."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from qtool.config.data import (
    CategoricalInput,
    ConstantInput,
    Input,
    NumericInput,
    SequenceInput,
)
from qtool.data.blocks import Block
from qtool.data.columns import width
from qtool.data.constant import ConstantLearner
from qtool.data.encoding import Encoding
from qtool.data.nested_learning import SequenceLearner, TensorLearner
from qtool.data.scaling import log_flags, no_value, nothing, scaled
from qtool.data.source import Source
from qtool.data.statistics import merge, observe
from qtool.data.tabular import CategoricalEncoding, NumericEncoding, Vocabulary
from qtool.data.values import categories, number_matrix
from qtool.errors import DataError

MAX_VOCABULARY = 1_000_000


class Learner(Protocol):
    """Learns one input's encoding."""

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Checks all rows of a block and learns from those where ``training`` is true."""

    def finish(self) -> Encoding:
        """Returns the encoding."""


def learner(part: Input, source: Source) -> Learner:
    """Returns a learner for one input of ``source``."""
    if isinstance(part, NumericInput):
        return NumericLearner(part, source)
    if isinstance(part, CategoricalInput):
        return CategoricalLearner(part, source)
    if isinstance(part, SequenceInput):
        return SequenceLearner(part, source)
    if isinstance(part, ConstantInput):
        return ConstantLearner(part)
    return TensorLearner(part, source)


class NumericLearner:
    """Statistics of the columns, merged block by block in order."""

    def __init__(self, part: NumericInput, source: Source) -> None:
        self.part, self.source = part, source
        self.widths = tuple(width(source.schema, column) for column in part.columns)
        self.log = log_flags(part, self.widths)
        self.statistics = nothing(self.log)

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Reads all rows, and merges the statistics of the training rows."""
        columns = tuple(self.part.columns)
        x = number_matrix(block, columns, allow_missing=self.part.missing != "error")
        self.statistics = merge(self.statistics, observe(x[training], self.log))

    def finish(self) -> NumericEncoding:
        """Returns the encoding.

        Raises:
            DataError: a column has no value on the training split.
        """
        return scaled(self.part, self.widths, self.statistics, self.source.name)


class CategoricalLearner:
    """The values of each column."""

    def __init__(self, part: CategoricalInput, source: Source) -> None:
        self.part, self.source = part, source
        self.values: tuple[set[int | str], ...] = tuple(set() for _ in part.columns)

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Reads all rows, and collects the values of the training rows.

        Raises:
            DataError: a column has more than ``MAX_VOCABULARY`` values.
        """
        for column, known in zip(self.part.columns, self.values, strict=True):
            values = categories(block, column).filter(training)
            known.update(pc.unique(values.drop_null()).to_pylist())
            if len(known) > MAX_VOCABULARY and self.part.encode == "learn":
                raise DataError(
                    f"{self.source.name}, column {column!r}",
                    f"more than {MAX_VOCABULARY:,} different values",
                    "a column of categories",
                    "Remove it from the inputs; an identifier is no category.",
                )

    def finish(self) -> CategoricalEncoding:
        """Returns the encoding.

        Raises:
            DataError: a column has no value on the training split.
        """
        columns = tuple(self.part.columns)
        for column, known in zip(columns, self.values, strict=True):
            if not known:
                raise no_value(self.source.name, column)
        if self.part.encode == "none":
            return CategoricalEncoding(columns, None, self.part.dtype)
        vocabularies = tuple(_sorted(known) for known in self.values)
        return CategoricalEncoding(columns, vocabularies, self.part.dtype)


def _sorted(values: set[int | str]) -> Vocabulary:
    return tuple(sorted(values))  # type: ignore[return-value]
