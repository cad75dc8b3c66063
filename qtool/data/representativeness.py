"""Does the calibration sample stand for what the model is trained on and judged by?

Every column of the encoded inputs is compared with the training and the evaluation split: its
distribution (PSI), values beyond the range that calibration will see, classes that calibration
never sees. One streaming pass per split, with statistics that merge exactly in bounded memory.

A class-aware sample has more rows of the rare class than the splits: a column that tells the
classes apart differs by design, and the report shows by how much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.data.column_fit import ColumnFit, Representativeness
from qtool.data.dataset import Dataset
from qtool.data.encoding import Encoder
from qtool.data.observed import Column, Observed, encode_with_missing, observe
from qtool.data.split import SplitName
from qtool.data.tabular import CategoricalEncoding
from qtool.data.value_counts import ValueCounts, bin_counts, coarser
from qtool.numerics.psi import psi, psi_by_chance
from qtool.progress import Progress, Task

BINS = 10
MOST_CLASSES = 20
"""Bins of an index over classes: the most frequent ones, and all others."""
EXAMPLES = 10


def representativeness(
    dataset: Dataset, calibration: Iterator[Batch], progress: Progress
) -> Representativeness:
    """Returns how the calibration rows fit the training and the evaluation split, per column.

    Args:
        dataset: the splits.
        calibration: the rows that calibration sees.
        progress: where the passes are shown.
    """
    encoder, counts = dataset.fitted.encoder, dataset.fitted.counts.rows
    total = counts["training"] + counts["evaluation"]
    rows = {"training": counts["training"], "calibration": 0, "evaluation": counts["evaluation"]}

    def counted() -> Iterator[dict[str, NDArray[np.generic]]]:
        for batch in calibration:
            rows["calibration"] += len(batch)
            yield batch.inputs

    sample = observe(encoder, counted())
    ranges = {column: (seen.counts.low, seen.counts.high) for column, seen in sample.items()}
    with progress.task("compare calibration rows", total) as task:
        training = observe(encoder, _inputs(dataset, "training", task))
        evaluation = observe(encoder, _inputs(dataset, "evaluation", task), ranges)
    columns = [
        _fit(encoder, column, seen, training[column], evaluation[column])
        for column, seen in sample.items()
    ]
    columns.sort(key=lambda fit: (-len(fit.warnings), -(fit.psi_training or 0)))
    return Representativeness(rows, tuple(columns))


def _inputs(
    dataset: Dataset, split: SplitName, task: Task
) -> Iterator[dict[str, NDArray[np.generic]]]:
    encode = partial(encode_with_missing, dataset.fitted.encoder)
    for batch in dataset.pieces(split, encode):
        yield batch.inputs
        task.advance(len(batch))


def _fit(
    encoder: Encoder, column: Column, sample: Observed, training: Observed, evaluation: Observed
) -> ColumnFit:
    classes = column.kind == "classes"
    shift = max(seen.counts.shift for seen in (training, sample, evaluation))
    counts = tuple(coarser(seen.counts, shift) for seen in (training, sample, evaluation))
    bins = _class_bins(*counts) if classes else bin_counts(counts[0], counts[1:], BINS)
    unseen = _unseen(*counts) if classes else _Unseen(None, (), 0.0)
    ranged = not classes and sample.counts.total > 0
    return ColumnFit(
        input=column.input,
        column=column.name,
        kind=column.kind,
        psi_training=_index(bins[0], bins[1]),
        psi_evaluation=_index(bins[2], bins[1]),
        psi_chance=_by_chance(bins),
        low=sample.counts.low if ranged else None,
        high=sample.counts.high if ranged else None,
        outside_evaluation=_share(evaluation.outside, evaluation) if ranged else 0.0,
        constant=sample.counts.low == sample.counts.high,
        constant_training=training.counts.low == training.counts.high,
        missing_training=_share(training.missing, training),
        missing_evaluation=_share(evaluation.missing, evaluation),
        classes=unseen.classes,
        unseen_classes=len(unseen.codes),
        unseen_evaluation=unseen.evaluation,
        examples=tuple(_class_name(encoder, column, c, shift) for c in unseen.codes[:EXAMPLES]),
    )


@dataclass(frozen=True)
class _Unseen:
    """All classes, codes of those that the sample has not, their share of evaluation values."""

    classes: int | None
    codes: tuple[int, ...]
    evaluation: float


def _unseen(training: ValueCounts, sample: ValueCounts, evaluation: ValueCounts) -> _Unseen:
    known = np.union1d(training.keys, evaluation.keys)
    new = ~np.isin(evaluation.keys, sample.keys)
    share = evaluation.counts[new].sum() / max(evaluation.total, 1)
    codes = np.setdiff1d(known, sample.keys)
    order = np.argsort(-_counts_of(training, codes) - _counts_of(evaluation, codes), kind="stable")
    return _Unseen(len(np.union1d(known, sample.keys)), tuple(codes[order].tolist()), float(share))


def _class_bins(
    training: ValueCounts, sample: ValueCounts, evaluation: ValueCounts
) -> list[NDArray[np.int64]]:
    """Returns the values of the most frequent training classes, and of all others, per split."""
    order = np.argsort(-training.counts, kind="stable")
    frequent = training.keys[order[: MOST_CLASSES - 1]]
    bins = []
    for each in (training, sample, evaluation):
        counts = _counts_of(each, frequent)
        bins.append(np.append(counts, each.total - counts.sum()))
    used = np.sum(bins, axis=0) > 0
    return [counts[used] for counts in bins]


def _counts_of(found: ValueCounts, keys: NDArray[np.int64]) -> NDArray[np.int64]:
    places = np.searchsorted(found.keys, keys)
    padded = np.append(found.counts, 0)
    there = np.append(found.keys, np.iinfo(np.int64).max)[places] == keys
    return np.where(there, padded[places], 0)


def _index(reference: NDArray[np.int64], other: NDArray[np.int64]) -> float | None:
    return psi(reference, other) if reference.sum() and other.sum() else None


def _by_chance(bins: list[NDArray[np.int64]]) -> float:
    training, sample = int(bins[0].sum()), int(bins[1].sum())
    return psi_by_chance(len(bins[0]), training, sample) if training and sample else 0.0


def _share(part: int, seen: Observed) -> float:
    return part / max(seen.counts.total, 1)


def _class_name(encoder: Encoder, column: Column, code: int, shift: int) -> str:
    """Returns the category of a learned code, else the number."""
    part = encoder.inputs[column.input]
    if not isinstance(part, CategoricalEncoding) or part.vocabularies is None or shift:
        return str(code << shift)
    if code == 0:
        return "(missing or new)"
    return str(part.vocabularies[part.columns.index(column.name)][code - 1])
