"""Calibration sample: few rows that stand for the split, with enough of the rare class.

Every row has a priority, a hash of the seed and its row number; the sample of a class is the rows
with the smallest priorities ("bottom-k"). So one streaming pass with bounded memory gives a uniform
sample that does not depend on the batch size or on the order in which rows come, and samples of
shards can be merged.

Source: bottom-k sampling, Cohen and Kaplan 2007, "Summarizing data using bottom-k sketches".
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch, join
from qtool.data.hashing import splitmix64


def calibration_sample(
    batches: Iterable[Batch], samples: int, minimum_class_share: float, seed: int
) -> Batch:
    """Returns representative rows sorted by row number; all rows when ``samples`` or fewer.

    Args:
        batches: all rows of a split, in any order.
        samples: rows to return.
        minimum_class_share: smallest share of each class in the sample, at most 0.5; a class with
            fewer rows gives all it has. Above that share, classes keep their natural proportion.
        seed: another seed gives another sample.

    Raises:
        ValueError: there are no batches.
    """
    kept: Batch | None = None
    totals = np.zeros(2, np.int64)
    for batch in batches:
        totals += np.bincount(batch.labels, minlength=2)
        pool = batch if kept is None else join([kept, batch])
        kept = pool.take(_smallest_per_class(pool, (samples, samples), seed))
    if kept is None:
        raise ValueError("no batches to sample from")
    quotas = class_quotas(int(totals[0]), int(totals[1]), samples, minimum_class_share)
    chosen = kept.take(_smallest_per_class(kept, quotas, seed))
    return chosen.take(np.argsort(chosen.rows))


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


def _smallest_per_class(batch: Batch, quotas: tuple[int, int], seed: int) -> NDArray[np.int64]:
    priority = _priorities(batch.rows, seed)
    chosen = []
    for label, quota in enumerate(quotas):
        positions = np.flatnonzero(batch.labels == label)
        if len(positions) > quota:
            # Distinct rows have distinct priorities, so the smallest are well defined.
            positions = positions[np.argpartition(priority[positions], quota)[:quota]]
        chosen.append(positions)
    return np.concatenate(chosen)


def _priorities(rows: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    # The seed is hashed first: seeds 0 and 1 must not give streams shifted by one row.
    key = splitmix64(np.array([seed], np.uint64))
    return splitmix64(rows.view(np.uint64) ^ key)
