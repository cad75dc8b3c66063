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
from collections.abc import Iterable, Iterator

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
        batches: row numbers and labels of a split, in any order; inputs are not looked at.
        samples: rows to return.
        minimum_class_share: smallest share of each class in the sample, at most 0.5; a class with
            fewer rows gives all it has. Above that share, classes keep their natural proportion.
        seed: another seed gives another sample.
    """
    classes = (Smallest(samples, seed), Smallest(samples, seed))
    for batch in batches:
        if batch.labels is None:
            classes[0].observe(batch.rows)
        else:
            for label, smallest in enumerate(classes):
                smallest.observe(batch.rows[batch.labels == label])
    quotas = class_quotas(classes[0].seen, classes[1].seen, samples, minimum_class_share)
    chosen = [smallest.rows(quota) for smallest, quota in zip(classes, quotas, strict=True)]
    return np.sort(np.concatenate(chosen))


def class_quotas(
    negatives: int, positives: int, samples: int, minimum_class_share: float
) -> tuple[int, int]:
    """Returns how many negative and positive rows the sample has."""
    if negatives + positives <= samples:
        return negatives, positives
    # An odd number of samples cannot give both classes half.
    minimum = min(math.ceil(samples * minimum_class_share), samples // 2)
    natural = round(samples * positives / (negatives + positives))
    wanted = min(max(natural, minimum), samples - minimum)
    chosen = min(max(wanted, samples - negatives), positives)
    return samples - chosen, chosen


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
