"""The ``task:`` key: what the labels say, and so what training minimizes and what can be judged."""

from __future__ import annotations

from typing import Literal

Task = Literal[
    "binary_classification",
    "multiclass_classification",
    "regression",
    "language_model",
    "sequence_tagging",
    "representation",
]
CLASSIFICATION: tuple[Task, ...] = ("binary_classification", "multiclass_classification")
"""Tasks whose labels are classes."""
LABELLED: tuple[Task, ...] = (*CLASSIFICATION, "regression", "sequence_tagging")
"""Tasks that cannot be trained without ``data.label``."""
IGNORED = -100
"""Tag of a step that is neither trained on nor judged, such as padding.

It is ``ignore_index`` of torch's cross_entropy, as data sets of token classification use it.
"""
