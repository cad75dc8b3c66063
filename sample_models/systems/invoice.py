"""Extraction with the tagger: the fields that bookkeeping gets, and which receipts need nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from qtool.config.task import IGNORED
from qtool.data.batch import Batch, labels_of
from qtool.data.generators.receipts import FIELDS
from qtool.evaluation.metrics.tagging import entities
from qtool.evaluation.system import Predict

Floats = NDArray[np.float64]
Value = tuple[int, ...]
KINDS = np.arange(1 + len(FIELDS))
BEGINS = np.zeros(len(KINDS), bool)


def extraction(fp32: Predict, int8: Predict, rows: Batch) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of every receipt with both models.

    The value of a field is the words of the entity whose tags are the most probable ones on
    average. It is right when its words are those of the labelled one, wherever they stand: an
    amount that is printed twice is the same amount.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: receipts with the input ``tokens``, their fields tagged as ``FIELDS`` says.

    Returns:
        ``fields_right``, the share of the labelled fields whose value is right, and ``touchless``,
        1 where all are and no other is found, (receipts,) each.
    """
    wanted = values(labels_of(rows), np.zeros(labels_of(rows).shape), rows)
    found = [_extracted(predict, rows.inputs, rows) for predict in (fp32, int8)]
    right = [np.array(list(map(_share, wanted, one))) for one in found]
    touchless = [np.array(list(map(dict.__eq__, wanted, one)), np.float64) for one in found]
    return {"fields_right": (right[0], right[1]), "touchless": (touchless[0], touchless[1])}


def values(tags: NDArray[np.int64], scores: Floats, rows: Batch) -> list[dict[int, Value]]:
    """Returns the value of each field of every receipt, by its tag.

    Args:
        tags: of the words, (rows, steps).
        scores: of those tags, (rows, steps); of equal ones the first entity counts.
        rows: with labels, ``IGNORED`` where there is no word, and with the input ``tokens``.
    """
    words = rows.inputs["tokens"][:, :, 0]
    row, step = np.nonzero(labels_of(rows) != IGNORED)
    firsts, lasts, kinds = entities(tags[row, step].astype(np.int64), row, KINDS, BEGINS)
    best: list[dict[int, tuple[float, Value]]] = [{} for _ in range(len(words))]
    for first, last, kind in zip(firsts, lasts, kinds.tolist(), strict=True):
        found, steps = best[row[first]], step[first : last + 1]
        score = float(scores[row[first], steps].mean())
        if kind not in found or score > found[kind][0]:
            found[kind] = score, tuple(words[row[first], steps].tolist())
    return [{kind: value for kind, (_, value) in one.items()} for one in best]


def _extracted(
    predict: Predict, inputs: Mapping[str, NDArray[Any]], rows: Batch
) -> list[dict[int, Value]]:
    (logits,) = predict(inputs).values()
    scores = log_softmax(logits.astype(np.float64), axis=2)
    return values(scores.argmax(axis=2), scores.max(axis=2), rows)


def _share(wanted: dict[int, Value], found: dict[int, Value]) -> float:
    right = sum(found.get(kind) == value for kind, value in wanted.items())
    return right / max(1, len(wanted))
