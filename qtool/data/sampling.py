"""Calibration rows: few rows that stand for the split, with enough of the rare class.

Every row has a priority, a hash of the seed and its row number; the sample of a class is the rows
with the smallest priorities ("bottom-k"). So one streaming pass with bounded memory gives a uniform
sample that does not depend on the batch size or on the order in which rows come, samples of shards
can be merged, and a larger sample contains the smaller ones of its class.

A first pass over labels and row numbers chooses; a second one encodes and yields the chosen rows,
so that no more than one batch of them is held.

Source: bottom-k sampling, Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.data.dataset import Dataset
from qtool.data.hashing import splitmix64

Rows = NDArray[np.int64]


def calibration_rows(
    dataset: Dataset,
    samples: int | None,
    minimum_class_share: float,
    seed: int,
    batch_rows: int,
) -> Iterator[Batch]:
    """Yields representative rows of the calibration split in source order.

    Args:
        dataset: the rows.
        samples: rows to yield; None, or more than there are, for all rows of the split.
        minimum_class_share: see ``choose_rows``; without labels the sample is uniform.
        seed: another seed gives another sample.
        batch_rows: rows per batch, the last may be shorter; the rows do not depend on it.

    Raises:
        DataError: the source has changed so that a value cannot be used.
    """
    only = None
    if samples is not None and samples < dataset.fitted.counts.rows["calibration"]:
        rows = dataset.row_numbers("calibration")
        only = choose_rows(rows, samples, minimum_class_share, seed)
    yield from dataset.batches("calibration", batch_rows, only)


def choose_rows(
    batches: Iterable[Batch], samples: int, minimum_class_share: float, seed: int
) -> Rows:
    """Returns the row numbers of the sample, sorted; all when there are ``samples`` or fewer.

    Args:
        batches: row numbers and classes of a split, in any order; inputs are not looked at. Without
            labels all rows are one class.
        samples: rows to return.
        minimum_class_share: smallest share of each class in the sample, or what all classes can
            have alike; a class with fewer rows gives all it has. Above that share, classes keep
            their natural proportion.
        seed: another seed gives another sample.
    """
    classes = defaultdict[int, Smallest](lambda: Smallest(samples, seed))
    for batch in batches:
        for label, rows in _by_class(batch):
            classes[label].observe(rows)
    found = [classes[label] for label in sorted(classes)]
    quotas = class_quotas([each.seen for each in found], samples, minimum_class_share)
    chosen = [each.rows(quota) for each, quota in zip(found, quotas, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]))


def _by_class(batch: Batch) -> Iterator[tuple[int, Rows]]:
    if batch.labels is None:
        yield 0, batch.rows
        return
    order = np.argsort(batch.labels, kind="stable")
    labels, starts = np.unique(batch.labels[order], return_index=True)
    yield from zip(labels.tolist(), np.split(batch.rows[order], starts[1:]), strict=True)


def class_quotas(counts: Sequence[int], samples: int, minimum_class_share: float) -> list[int]:
    """Returns how many rows of each class the sample has, for classes of ``counts`` rows."""
    if sum(counts) <= samples:
        return list(counts)
    # No class can be sure of more rows than equal shares, rounded down, give to each.
    minimum = min(math.ceil(samples * minimum_class_share), samples // len(counts))
    quotas, left = [0] * len(counts), samples
    open_classes = {index: count for index, count in enumerate(counts) if count}
    while rare := _below(open_classes, left, minimum):
        for index in rare:
            quotas[index] = min(minimum, open_classes.pop(index))
            left -= quotas[index]
    # From the last class to the first, each by what is left, so that the rounded shares add up.
    for index in reversed(list(open_classes)):
        total = sum(open_classes.values())
        quotas[index] = round(left * open_classes.pop(index) / total)
        left -= quotas[index]
    return quotas


def _below(counts: dict[int, int], samples: int, minimum: int) -> list[int]:
    """Returns the classes whose natural share of the samples is less than they should have."""
    total = sum(counts.values())
    return [i for i, count in counts.items() if samples * count < min(minimum, count) * total]


class Smallest:
    """The rows with the smallest priorities among those seen, at most ``size`` of them."""

    def __init__(self, size: int, seed: int) -> None:
        # The seed is hashed first: seeds 0 and 1 must not give streams shifted by one row.
        self.size, self.key = size, splitmix64(np.array([seed], np.uint64))
        self.kept: list[Rows] = []
        self.waiting = self.seen = 0
        self.limit = np.uint64(2**64 - 1)

    def observe(self, rows: Rows) -> None:
        """Takes distinct row numbers, int64 (n,)."""
        self.seen += len(rows)
        below = rows[self._priorities(rows) <= self.limit]
        self.kept.append(below)
        self.waiting += len(below)
        if self.waiting > 2 * self.size:
            # Seldom, so that the cost per row does not grow with the size of the sample.
            self.kept = [self.rows(self.size)]
            self.waiting = self.size
            self.limit = self._priorities(self.kept[0]).max()

    def rows(self, count: int) -> Rows:
        """Returns the ``count`` rows with the smallest priorities, in no order."""
        rows = np.concatenate([np.empty(0, np.int64), *self.kept])
        if len(rows) <= count:
            return rows
        # Distinct rows have distinct priorities, so the smallest are well defined.
        return rows[np.argpartition(self._priorities(rows), count)[:count]]

    def _priorities(self, rows: Rows) -> NDArray[np.uint64]:
        return splitmix64(rows.view(np.uint64) ^ self.key)
