"""Fitting: one streaming pass that learns the encoder on the training split and counts every split.

The pass reads blocks of a fixed number of rows whatever ``data.batch_rows`` is, so that the encoder
is the same to the byte for every batch size. It also checks every value of every split, before any
long work starts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtool.config.data import Data
from qtool.data.blocks import Block, read_blocks
from qtool.data.columns import check_columns, needed_columns
from qtool.data.encoding import Encoder
from qtool.data.learning import learner
from qtool.data.list_types import block_rows
from qtool.data.loading import load_encoder
from qtool.data.source import Source
from qtool.data.split import SPLITS, TRAINING, ResolvedSplit, SplitName, assign, resolve_split
from qtool.data.values import labels
from qtool.errors import DataError
from qtool.progress import Progress

FIT_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class SplitCounts:
    """Rows and rows with label 1 of each split; ``positives`` is empty without labels."""

    rows: dict[SplitName, int]
    positives: dict[SplitName, int]


@dataclass(frozen=True)
class Fitted:
    """What the data section became on its data: encoder, split with cut points, counts."""

    encoder: Encoder
    split: ResolvedSplit
    counts: SplitCounts


def fit(source: Source, data: Data, progress: Progress) -> Fitted:
    """Returns the encoder, learned or loaded from ``data.encoder``, the split and the counts.

    Raises:
        DataError: the columns do not fit the data section, a value cannot be used (named with
            column and row), a split is empty or has one class only.
        StaleArtifactError: ``data.encoder`` is no encoder, or one for other inputs.
    """
    check_columns(source, data)
    loaded = None if data.encoder is None else load_encoder(data.encoder, data, source.schema)
    split = resolve_split(source, data.split)
    learners = {name: learner(part, source) for name, part in data.inputs.items()}
    tally = np.zeros((len(SPLITS), 2), np.int64)
    with progress.task("Reading the data") as task:
        size = block_rows(data, FIT_BLOCK_ROWS)
        for block in read_blocks(source, needed_columns(data), size):
            codes = assign(block, split)
            tally += _count(codes, block, data.label)
            for learning in learners.values():
                learning.observe(block, codes == TRAINING)
            task.advance(len(block.rows), f"{tally.sum():,} rows")
    counts = _checked_counts(source, tally, data.label)
    if loaded is not None:
        return Fitted(loaded, split, counts)
    encoder = Encoder({name: learning.finish() for name, learning in learners.items()})
    return Fitted(encoder, split, counts)


def _count(codes: NDArray[np.int8], block: Block, label: str | None) -> NDArray[np.int64]:
    """Returns rows per split and label, (splits, 2); without a label all in the first column."""
    positive = np.zeros_like(codes) if label is None else labels(block, label)
    return np.bincount(codes * 2 + positive, minlength=2 * len(SPLITS)).reshape(len(SPLITS), 2)


def _checked_counts(source: Source, tally: NDArray[np.int64], label: str | None) -> SplitCounts:
    for name, (negatives, positives) in zip(SPLITS, tally.tolist(), strict=True):
        one_class = label is not None and (negatives == 0 or positives == 0)
        if one_class or negatives + positives == 0:
            found = (
                "no rows"
                if negatives == positives
                else f"only rows with label {int(positives > 0)}"
            )
            raise DataError(
                f"{source.name}, {name} split",
                found,
                "rows" if label is None else "rows of both classes",
                "Use more data, or change data.split.",
            )
    positives = {} if label is None else dict(zip(SPLITS, tally[:, 1].tolist(), strict=True))
    return SplitCounts(
        rows=dict(zip(SPLITS, tally.sum(axis=1).tolist(), strict=True)), positives=positives
    )
