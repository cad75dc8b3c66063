"""What a report on columns looks at: the columns of encoded inputs, and how their values occur."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qtool.data.blocks import Block
from qtool.data.constant import ConstantEncoding
from qtool.data.encoding import Encoder
from qtool.data.nested import SequenceEncoding, TensorEncoding
from qtool.data.signature import Arrays
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.data.value_counts import ValueCounts, count_values, merge

Kind = Literal["numeric", "classes", "length"]
NUMERIC_KEYS = 2048
"""A float column is then known to 1/2048 of its values where it varies most, in 32 KiB."""
CLASS_KEYS = 2**18
"""More classes than that are counted together with their neighbours."""
MOST_CHANNELS = 512
"""A wider last axis is looked at as one column."""
MISSING = "missing "
"""Before an input's name: where its values were missing, bool (rows, k)."""


@dataclass(frozen=True)
class Column:
    """One column of a model input; ``classes`` are codes and other integers."""

    input: str
    name: str
    kind: Kind


@dataclass(frozen=True)
class Observed:
    """The values of one column in one split.

    Attributes:
        counts: how often each value occurs.
        missing: values that were missing (or unseen categories) before they were encoded.
        outside: values outside of a range that was known before.
    """

    counts: ValueCounts
    missing: int
    outside: int


def encode_with_missing(encoder: Encoder, block: Block) -> Arrays:
    """Returns the model's inputs and, for those that fill missing values, where they did."""
    arrays = encoder.encode(block)
    for name, part in encoder.inputs.items():
        if isinstance(part, NumericEncoding) and part.fill is not None:
            arrays[MISSING + name] = np.isnan(part.raw(block))
    return arrays


def observe(
    encoder: Encoder,
    batches: Iterable[Mapping[str, NDArray[Any]]],
    ranges: Mapping[Column, tuple[float, float]] | None = None,
) -> dict[Column, Observed]:
    """Returns what occurs in every column; neither order nor size of the batches matter.

    Args:
        encoder: that made the inputs.
        batches: its inputs.
        ranges: low and high of columns, whose values outside are counted.
    """
    found: dict[Column, Observed] = {}
    for batch in batches:
        for column, values, missing in _columns(encoder, batch):
            low, high = (ranges or {}).get(column, (-np.inf, np.inf))
            outside = 0 if ranges is None else int(((values < low) | (values > high)).sum())
            limit = CLASS_KEYS if column.kind == "classes" else NUMERIC_KEYS
            seen = Observed(count_values(values, limit), missing, outside)
            before = found.get(column)
            found[column] = seen if before is None else _merge(before, seen)
    return found


def _merge(a: Observed, b: Observed) -> Observed:
    return Observed(merge(a.counts, b.counts), a.missing + b.missing, a.outside + b.outside)


def _columns(
    encoder: Encoder, inputs: Mapping[str, NDArray[Any]]
) -> Iterator[tuple[Column, NDArray[Any], int]]:
    """Yields every column with its values and how many of them were missing."""
    for name, part in encoder.inputs.items():
        if isinstance(part, ConstantEncoding):
            continue
        values = inputs[name]
        if isinstance(part, SequenceEncoding):
            lengths = part.lengths(name, dict(inputs))
            yield Column(name, "length", "length"), lengths, 0
            values = values[np.arange(part.length) < lengths[:, None]].reshape(-1, part.width)
        elif isinstance(part, TensorEncoding):
            values = _channels(values, part.shape)
        kind: Kind = "numeric" if values.dtype == np.float32 else "classes"
        missing = _missing(name, part, inputs, values)
        for index, label in enumerate(_labels(part, values.shape[1])):
            yield Column(name, label, kind), values[:, index], int(missing[index])


def _channels(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    wide = not shape or shape[-1] > MOST_CHANNELS
    return values.reshape(-1, 1 if wide else shape[-1])


def _missing(
    name: str, part: object, inputs: Mapping[str, NDArray[Any]], values: NDArray[Any]
) -> NDArray[np.int64]:
    if isinstance(part, CategoricalEncoding) and part.vocabularies is not None:
        return np.asarray((values == 0).sum(axis=0), np.int64)
    if MISSING + name in inputs:
        return np.asarray(inputs[MISSING + name].sum(axis=0), np.int64)
    return np.zeros(values.shape[1], np.int64)


def _labels(part: object, count: int) -> list[str]:
    """Returns a name for each of ``count`` columns; a column with several numbers has indices."""
    if isinstance(part, CategoricalEncoding):
        return list(part.columns)
    assert isinstance(part, NumericEncoding | SequenceEncoding | TensorEncoding)
    scaling = part if isinstance(part, NumericEncoding) else part.channels.scaling
    widths = (count,) if scaling is None else scaling.widths
    if scaling is None and len(part.columns) == count:
        widths = (1,) * count
    labels = [
        name if width == 1 else f"{name}[{index}]"
        for name, width in zip(part.columns, widths, strict=False)
        for index in range(width)
    ]
    return labels if len(labels) == count else [part.columns[0]]
