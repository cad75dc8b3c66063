"""Learners: what one input's encoding learns from the blocks of the training split."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from qtool.config.data import CategoricalInput, NumericInput
from qtool.data.blocks import Block
from qtool.data.columns import width
from qtool.data.encoding import CategoricalEncoding, Encoding, NumericEncoding, Vocabulary
from qtool.data.source import Source
from qtool.data.statistics import (
    Float64,
    NumericStatistics,
    merge,
    observe,
    signed_log,
    with_filled,
)
from qtool.data.values import Float32, categories, number_matrix
from qtool.errors import DataError

MAX_VOCABULARY = 1_000_000


class Learner(Protocol):
    """Learns one input's encoding."""

    def observe(self, block: Block, training: NDArray[np.bool_]) -> None:
        """Checks all rows of a block and learns from those where ``training`` is true."""

    def finish(self) -> Encoding:
        """Returns the encoding."""


def learner(part: NumericInput | CategoricalInput, source: Source) -> Learner:
    """Returns a learner for one input of ``source``."""
    if isinstance(part, NumericInput):
        return NumericLearner(part, source)
    return CategoricalLearner(part, source)


def _no_value(source: Source, column: str) -> DataError:
    return DataError(
        f"{source.name}, column {column!r}",
        "no value on the training split",
        "at least one",
        "Remove the column from the inputs.",
    )


class NumericLearner:
    """Statistics of the columns, merged block by block in order."""

    def __init__(self, part: NumericInput, source: Source) -> None:
        self.part, self.source = part, source
        self.widths = tuple(width(source.schema, column) for column in part.columns)
        self.log = np.repeat([column in part.log for column in part.columns], self.widths)
        empty = np.empty((0, len(self.log)), np.float32)
        self.statistics = observe(empty, self.log)

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
        for column, count in zip(
            np.repeat(self.part.columns, self.widths), self.statistics.count, strict=True
        ):
            if count == 0:
                raise _no_value(self.source, str(column))
        fill = self._fill()
        statistics = self.statistics
        if fill is not None:
            statistics = with_filled(statistics, signed_log(fill[None, :], self.log)[0])
        offset, multiplier = _scaling(self.part.scale, statistics)
        return NumericEncoding(
            columns=tuple(self.part.columns),
            widths=self.widths,
            fill=fill,
            log=self.log,
            offset=offset,
            multiplier=multiplier,
            clip=self.part.clip,
        )

    def _fill(self) -> Float32 | None:
        if self.part.missing == "error":
            return None
        if self.part.missing == "zero":
            return np.zeros(len(self.log), np.float32)
        return self.statistics.raw_mean.astype(np.float32)


def _scaling(scale: str, statistics: NumericStatistics) -> tuple[Float32, Float32]:
    """Returns offset and multiplier; a constant column gets multiplier 1.

    Source: StandardScaler (population variance) and MinMaxScaler of scikit-learn 1.4.
    """
    spread: Float64
    if scale == "none":
        offset, spread = np.zeros_like(statistics.mean), np.ones_like(statistics.mean)
    elif scale == "standard":
        offset, spread = statistics.mean, np.sqrt(statistics.squares / statistics.count)
    else:
        offset, spread = statistics.low, statistics.high - statistics.low
    # Constant by its bounds: the rounding of the mean may leave a tiny variance. A spread below
    # float32's normal numbers has no finite reciprocal there.
    constant = (statistics.low == statistics.high) | (spread < np.finfo(np.float32).tiny * 4)
    multiplier = 1 / np.where(constant, 1.0, spread)
    return offset.astype(np.float32), multiplier.astype(np.float32)


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
                raise _no_value(self.source, column)
        if self.part.encode == "none":
            return CategoricalEncoding(columns, None)
        return CategoricalEncoding(columns, tuple(_sorted(known) for known in self.values))


def _sorted(values: set[int | str]) -> Vocabulary:
    return tuple(sorted(values))  # type: ignore[return-value]
