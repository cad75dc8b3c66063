"""How much each row pulls at average precision, for its variance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Values = NDArray[np.float64]


def average_precision_influence(labels: NDArray[np.integer[Any]], scores: Scores) -> Values:
    """Returns the derivative of average precision by the weight of each row, float64 (rows,).

    Average precision is the mean over positives of t / (t + f), with t positives and f negatives
    that score at least as high. One more positive adds its own term, and f / (t + f)² to those of
    the positives that score at most as high; one more negative takes t / (t + f)² from them.

    Args:
        labels: 0 or 1, shape (rows,), at least one 1.
        scores: without NaN.
    """
    order = np.argsort(-scores)
    ranked, positive = scores[order], labels[order] == 1
    # Tied scores are one step: rows are counted at the last of them.
    ends = np.append(ranked[1:] != ranked[:-1], True)
    last = np.flatnonzero(ends)
    step = np.cumsum(np.append(False, ends[:-1]))
    true, flagged = np.cumsum(positive)[last].astype(np.float64), last + 1.0
    found = np.diff(true, prepend=0.0)
    precision = true / flagged
    later = np.cumsum((found * (1 - precision) / flagged)[::-1])[::-1]
    lost = np.cumsum((found * precision / flagged)[::-1])[::-1]
    mean = (found @ precision) / true[-1]
    pulled = np.where(positive, (precision + later)[step] - mean, -lost[step])
    influence = np.empty(scores.size)
    influence[order] = pulled / true[-1]
    return influence
