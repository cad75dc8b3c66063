"""Automatic posting: which line of a statement pays which invoice, and what wrong ones cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from qtool.data.batch import Batch, labels_of
from qtool.evaluation.system import Predict

STATEMENT, LINE, ITEM = "statement", "line", "item"
CHUNK_ROWS = 1024
"""Scored at a time."""

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def posting(
    fp32: Predict,
    int8: Predict,
    rows: Batch,
    threshold: float,
    false_match: float,
    missed: float,
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of every statement with both models.

    Pairs that score at least ``threshold`` are posted, each line and each item once, such that the
    sum of their scores is largest. A line that pays several items gets one of them; the others are
    left to a person and count as missed, with both models.

    Args:
        fp32: the model that is replaced; its output is a logit.
        int8: the model that replaces it.
        rows: candidate pairs with the columns ``STATEMENT``, ``LINE`` and ``ITEM``; a statement
            whose first rows are left out is judged on the others.
        threshold: smallest probability of a pair that is posted.
        false_match: cost of a wrong posting that has to be found and reversed.
        missed: cost of a right pair that a person has to find.

    Returns:
        ``match_f1``, 1 where there is nothing to post and nothing is; ``false_match_cost``, in the
        unit of the costs per line of the statement; (statements,) each.
    """
    is_match = labels_of(rows) > 0
    statements = list(_groups(rows.columns[STATEMENT]))
    found: list[tuple[list[float], list[float]]] = []
    for predict in (fp32, int8):
        posted = assigned(_scores(predict, rows), rows, statements, threshold)
        f1, cost = [], []
        for one in statements:
            right = int((posted[one] & is_match[one]).sum())
            wrong = int(posted[one].sum()) - right
            left = int(is_match[one].sum()) - right
            total = 2 * right + wrong + left
            f1.append(2 * right / total if total else 1.0)
            lines = len(np.unique(rows.columns[LINE][one]))
            cost.append((false_match * wrong + missed * left) / lines)
        found.append((f1, cost))
    return {
        name: (np.array(found[0][index]), np.array(found[1][index]))
        for index, name in enumerate(("match_f1", "false_match_cost"))
    }


def assigned(
    scores: Floats, rows: Batch, statements: list[NDArray[np.int64]], threshold: float
) -> Mask:
    """Returns which pairs are posted, bool (rows,).

    Source: the linear sum assignment problem (Crouse 2016, "On implementing 2D rectangular
    assignment algorithms", IEEE Transactions on Aerospace and Electronic Systems 52(4)).
    """
    posted = np.zeros(len(scores), bool)
    for one in statements:
        lines, line = np.unique(rows.columns[LINE][one], return_inverse=True)
        items, item = np.unique(rows.columns[ITEM][one], return_inverse=True)
        gain = np.zeros((len(lines), len(items)))
        gain[line, item] = np.where(scores[one] >= threshold, scores[one], 0.0)
        chosen = np.zeros(gain.shape, bool)
        chosen[linear_sum_assignment(gain, maximize=True)] = True
        posted[one] = chosen[line, item] & (gain[line, item] > 0)
    return posted


def _groups(names: NDArray[np.object_]) -> Iterator[NDArray[np.int64]]:
    """Yields the positions of the rows of each statement."""
    _, group = np.unique(names.astype(str), return_inverse=True)
    order = np.argsort(group, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(group[order])) + 1)


def _scores(predict: Predict, rows: Batch) -> Floats:
    """Returns the probabilities of all pairs, float64 (rows,)."""
    logits = []
    for first in range(0, len(rows), CHUNK_ROWS):
        part = rows.take(slice(first, first + CHUNK_ROWS))
        (output,) = predict(part.inputs).values()
        logits.append(output.reshape(-1).astype(np.float64))
    scores: Floats = 1 / (1 + np.exp(-np.concatenate(logits)))
    return scores
