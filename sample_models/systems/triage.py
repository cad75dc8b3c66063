"""Routing with the classifier: a message goes to the desk of its class, or somebody reads it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from qtool.data.batch import Batch, labels_of
from qtool.evaluation.system import Predict

Floats = NDArray[np.float64]


def routing(
    fp32: Predict, int8: Predict, rows: Batch, threshold: float = 0.5
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of every message with both models.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: messages and their classes.
        threshold: probability of the most probable class from which on nobody reads the message.

    Returns:
        ``routed``, 1 where nobody reads the message, and ``misrouted``, 1 where it goes to a wrong
        desk then, (messages,) each.
    """
    routed, misrouted = [], []
    for predict in (fp32, int8):
        (logits,) = predict(rows.inputs).values()
        probabilities = softmax(logits.astype(np.float64), axis=1)
        sure = probabilities.max(axis=1) >= threshold
        wrong = probabilities.argmax(axis=1) != labels_of(rows)
        routed.append(sure.astype(np.float64))
        misrouted.append((sure & wrong).astype(np.float64))
    return {"routed": (routed[0], routed[1]), "misrouted": (misrouted[0], misrouted[1])}
