"""Counts of tokens, and a trigram model with interpolated Kneser-Ney smoothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch
from qtool.data.generators.finance_text import PADDING, VOCABULARY
from sample_models.baselines.found import Found

LONGEST = 3
DISCOUNT = 0.75
"""Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling",
section 4.1.5, find what is best between 0.6 and 0.9, of little effect."""

Tokens = NDArray[np.int64]
Keys = NDArray[np.int64]
Floats = NDArray[np.float64]


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields sum of the negative log-likelihoods, and tokens, of every row, (rows, 2)."""
    learned, judged = training.inputs["tokens"], evaluation.inputs["tokens"]
    asked = judged[:, 1:] != PADDING
    for title, longest in (("unigrams", 1), ("Kneser-Ney trigrams", LONGEST)):
        losses = np.zeros(asked.shape)
        losses[asked] = -np.log(kneser_ney(learned, judged, longest))
        yield title, np.column_stack([losses.sum(axis=1), asked.sum(axis=1)])


def kneser_ney(learned: Tokens, judged: Tokens, longest: int) -> Floats:
    """Returns the probability of every token but the first of each row given those before it.

    Source: Chen and Goodman 1998, equations 21 to 23, with one discount; the lowest order is mixed
    with all tokens alike.

    Args:
        learned: (rows, steps), padded at the end.
        judged: likewise.
        longest: tokens of an n-gram.

    Returns:
        float64 (n,), row by row.
    """
    probability = np.full(int((judged[:, 1:] != PADDING).sum()), 1 / VOCABULARY)
    for order in range(1, longest + 1):
        counted = _counts if order == longest else _continuations
        known, counts = counted(learned, order)
        contexts, inverse = np.unique(known // VOCABULARY, return_inverse=True)
        total = np.bincount(inverse, counts)
        kinds = np.bincount(inverse)
        wanted = _keys(judged, order)
        here, context = _places(known, wanted), _places(contexts, wanted // VOCABULARY)
        seen = context >= 0
        own = np.where(here >= 0, np.maximum(counts[here] - DISCOUNT, 0), 0)
        mixed = (own + DISCOUNT * kinds[context] * probability) / total[context]
        probability = np.where(seen, mixed, probability)
    return probability


def _counts(rows: Tokens, order: int) -> tuple[Keys, NDArray[np.int64]]:
    """Returns the n-grams, and how often each occurs."""
    return np.unique(_keys(rows, order), return_counts=True)


def _continuations(rows: Tokens, order: int) -> tuple[Keys, NDArray[np.int64]]:
    """Returns the n-grams, and behind how many different tokens each occurs."""
    longer, _ = _counts(rows, order + 1)
    return np.unique(longer % VOCABULARY**order, return_counts=True)


def _keys(rows: Tokens, order: int) -> Keys:
    """Returns a number for every token but the first of a row with the ``order`` - 1 before it.

    In front of a row stands padding.
    """
    steps = rows.shape[1]
    padded = np.pad(rows.astype(np.int64), ((0, 0), (order, 0)), constant_values=PADDING)
    key = np.zeros((len(rows), steps - 1), np.int64)
    for back in range(order - 1, -1, -1):
        first = order + 1 - back
        key = key * VOCABULARY + padded[:, first : first + steps - 1]
    keys: Keys = key[rows[:, 1:] != PADDING]
    return keys


def _places(known: Keys, wanted: Keys) -> NDArray[np.int64]:
    """Returns the place of each number among the sorted ``known``, -1 where it is not there."""
    place = np.searchsorted(known, wanted).clip(0, len(known) - 1)
    return np.where(known[place] == wanted, place, -1)
