"""The ``task:`` key: what the labels say, and so what training minimizes and what can be judged."""

from __future__ import annotations

from typing import Literal

Task = Literal[
    "binary_classification",
    "multiclass_classification",
    "regression",
    "language_model",
    "representation",
]
CLASSIFICATION: tuple[Task, ...] = ("binary_classification", "multiclass_classification")
"""Tasks whose labels are classes."""
LABELLED: tuple[Task, ...] = (*CLASSIFICATION, "regression")
"""Tasks that cannot be trained without ``data.label``."""
