"""Metrics of sequence tagging.

Labels are int32 (rows, steps), ``IGNORED`` where no tag counts; predictions are int16 or int32
(rows, steps), the tag of every token. Tokens without a label are left out of both.

Tags that are text name an entity: ``B-KIND`` begins one, ``I-KIND`` goes on with one of its kind or
else begins one, ``O`` is outside; ``B`` and ``I`` alone are of one kind. Tags that are integers are
entities as long as they stay the same; 0 is outside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qtool.config.task import IGNORED
from qtool.errors import ModelError
from qtool.evaluation.metrics.metric import Floats, Metric, of_sums, ratio
from qtool.evaluation.sample import Predictions, Sample, Statistic

BLOCK_ROWS = 65_536
"""Rows whose entities are looked for at once: it bounds the memory."""
OUTSIDE = "O"

Integers = NDArray[np.int64]


def entity_f1(sample: Sample, predictions: Predictions) -> Statistic:
    """Returns the statistic F1 of the entities, of all kinds together; NaN where there are none.

    An entity is found when its first token, its last token and its kind are right.

    Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 shared task",
    section 2.5, with the tags of Ramshaw and Marcus 1995, "Text chunking using transformation-based
    learning"; conlleval.pl, and seqeval 1.2 ``f1_score`` in its default mode.

    Raises:
        ModelError: the model gives a tag that has no text.
    """
    kinds, begins = _meaning(sample, predictions)
    counts = [
        _entities(sample.labels[rows], predictions[rows], kinds, begins)
        for rows in _blocks(len(sample))
    ]
    true, labelled, found = np.concatenate([np.zeros((3, 0)), *counts], axis=1)
    return of_sums(lambda t, a, b: ratio(2 * t, a + b), true, labelled, found)


def token_accuracy(sample: Sample, predictions: Predictions) -> Statistic:
    """Returns the statistic share of tokens with the right tag."""
    counted = sample.labels != IGNORED
    right = (predictions == sample.labels) & counted
    sums = (part.sum(axis=1).astype(np.float64) for part in (right, counted))
    return of_sums(ratio, *sums)


def entities(
    tags: Integers, rows: Integers, kinds: Integers, begins: NDArray[np.bool_]
) -> tuple[Integers, Integers, Integers]:
    """Returns first token, last token and kind of every entity, int64 (entities,), in their order.

    Args:
        tags: of the tokens of all rows one after the other, (tokens,).
        rows: row of each token, (tokens,), increasing; no entity goes beyond its row.
        kinds: kind of each tag, 0 is outside, (tags,).
        begins: whether a tag always begins an entity, (tags,).
    """
    kind = kinds[tags]
    inside, first, last = kind > 0, kind > 0, kind > 0
    first[1:] &= begins[tags[1:]] | (kind[1:] != kind[:-1]) | (rows[1:] != rows[:-1])
    last[:-1] &= first[1:] | ~inside[1:]
    starts = np.flatnonzero(first)
    return starts, np.flatnonzero(last), kind[starts]


def _entities(
    labels: NDArray[np.int32], predictions: Predictions, kinds: Integers, begins: NDArray[np.bool_]
) -> Floats:
    """Returns how many entities are found, labelled and predicted in every row, (3, rows)."""
    rows, steps = np.nonzero(labels != IGNORED)
    both = [
        entities(tags[rows, steps].astype(np.int64), rows, kinds, begins)
        for tags in (labels, predictions)
    ]
    (starts, ends, kind), (other_starts, other_ends, other_kind) = both
    _, here, there = np.intersect1d(starts, other_starts, assume_unique=True, return_indices=True)
    same = (ends[here] == other_ends[there]) & (kind[here] == other_kind[there])
    found = (starts[here[same]], starts, other_starts)
    counts = [np.bincount(rows[tokens], minlength=len(labels)) for tokens in found]
    return np.array(counts, np.float64)


def _meaning(sample: Sample, predictions: Predictions) -> tuple[Integers, NDArray[np.bool_]]:
    """Returns kind of every tag, 0 for outside, and whether it always begins an entity."""
    largest = max(int(tags.max(initial=0)) for tags in (sample.labels, predictions))
    if sample.classes is None:
        return np.arange(largest + 1), np.zeros(largest + 1, bool)
    if largest >= len(sample.classes):
        raise ModelError(
            "model output",
            f"the tag {largest}",
            f"one of the {len(sample.classes)} tags of the training split",
            "Check that the model was trained on the tags of data.label.",
        )
    return _kinds(sample.classes), np.array([text[0] == "B" for text in sample.classes])


def _kinds(classes: Sequence[str]) -> Integers:
    names = dict.fromkeys(text[2:] for text in classes if text != OUTSIDE)
    numbers = {name: number for number, name in enumerate(names, 1)}
    return np.array([0 if text == OUTSIDE else numbers[text[2:]] for text in classes])


def _blocks(rows: int) -> list[slice]:
    return [slice(first, first + BLOCK_ROWS) for first in range(0, rows, BLOCK_ROWS)]


METRICS = (
    Metric("entity_f1", "Entity F1", "higher", entity_f1, span=1),
    Metric("token_accuracy", "Token accuracy", "higher", token_accuracy, span=1),
)
