"""Fitting: one streaming pass that learns the encoder on the training split and counts every split.

The pass reads blocks of a fixed number of rows whatever ``data.batch_rows`` is, so that the encoder
is the same to the byte for every batch size. It also checks every value of every split, before any
long work starts.
"""

from __future__ import annotations

from dataclasses import dataclass

from qtool.config.data import Data
from qtool.config.task import Task
from qtool.data.blocks import read_blocks
from qtool.data.columns import check_columns, needed_columns
from qtool.data.encoding import Encoder
from qtool.data.label_counts import LabelCounter, SplitCounts
from qtool.data.labels import check_label_types, has_text_classes, labels_of_section
from qtool.data.learning import learner
from qtool.data.list_types import block_rows
from qtool.data.loading import load_encoder
from qtool.data.source import Source
from qtool.data.split import TRAINING, ResolvedSplit, assign, resolve_split
from qtool.progress import Progress

FIT_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Fitted:
    """What the data section became on its data: encoder, split with cut points, counts."""

    encoder: Encoder
    split: ResolvedSplit
    counts: SplitCounts


def fit(
    source: Source, data: Data, progress: Progress, task: Task = "binary_classification"
) -> Fitted:
    """Returns the encoder, learned or loaded from ``data.encoder``, the split and the counts.

    Raises:
        ConfigError: the task needs an input that the data section has not.
        DataError: the columns do not fit the data section or the task, a value cannot be used
            (named with column and row), a split is empty or has one class only, or the training
            split lacks a class.
        StaleArtifactError: ``data.encoder`` is no encoder, or one for other inputs.
    """
    check_columns(source, data)
    loaded = None if data.encoder is None else load_encoder(data.encoder, data, task, source.schema)
    labels = labels_of_section(data, task, loaded)
    if labels is not None:
        check_label_types(source, labels)
    split = resolve_split(source, data.split)
    learners = {name: learner(part, source) for name, part in data.inputs.items()}
    learns = loaded is None and has_text_classes(labels, source.schema)
    counter = LabelCounter(source.name, labels, learns=learns)
    with progress.task("Reading the data") as shown:
        size = block_rows(data, FIT_BLOCK_ROWS)
        for block in read_blocks(source, needed_columns(data), size):
            codes = assign(block, split)
            counter.observe(block, codes)
            for learning in learners.values():
                learning.observe(block, codes == TRAINING)
            shown.advance(len(block.rows), f"{counter.rows.sum():,} rows")
    counts, classes = counter.counts()
    if loaded is not None:
        return Fitted(loaded, split, counts)
    inputs = {name: learning.finish() for name, learning in learners.items()}
    return Fitted(Encoder(inputs, classes), split, counts)
