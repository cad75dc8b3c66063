"""What training minimises for binary classification, from whatever form the model's output has."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from qtool.config.model import Output
from qtool.errors import ModelError

Objective = Callable[[dict[str, Tensor], Tensor], tuple[Tensor, Tensor]]
"""(inputs, labels) → (mean loss, shape (); logits, shape (rows,))."""

PROBABILITY_MARGIN = 1e-6
"""Probabilities are kept this far from 0 and 1, where their logit would be infinite."""


def binary_logits(output: Tensor, kind: Output) -> Tensor:
    """Returns the logits of the positive class, shape (rows,).

    Args:
        output: shape (rows,), (rows, 1), or (rows, 2) with the positive class last.
        kind: whether ``output`` holds logits or probabilities.

    Raises:
        ModelError: another shape.
    """
    if output.ndim == 2 and output.shape[1] == 1:
        output = output[:, 0]
    elif output.ndim == 2 and output.shape[1] == 2:
        # softmax of two logits is the sigmoid of their difference
        output = output[:, 1] - output[:, 0] if kind == "logit" else output[:, 1]
    if output.ndim != 1:
        shape = ", ".join(str(size) for size in output.shape)
        expected = "(rows,), (rows, 1) or (rows, 2)"
        raise ModelError("model output", f"shape ({shape})", expected)
    return output if kind == "logit" else torch.logit(output, eps=PROBABILITY_MARGIN)


def only_output(outputs: Mapping[str, Tensor]) -> Tensor:
    """Returns the one output of a graph.

    Raises:
        ModelError: there are several.
    """
    if len(outputs) != 1:
        raise ModelError("model output", f"{', '.join(outputs)}", "one output")
    return next(iter(outputs.values()))


def binary_loss(logits: Tensor, labels: Tensor, positive_weight: float) -> Tensor:
    """Returns the mean binary cross-entropy, positive rows weighted."""
    weight = torch.tensor(positive_weight)
    return functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)


def distillation_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Returns the mean cross-entropy against the teacher's probabilities.

    Source: Hinton et al. 2015, "Distilling the knowledge in a neural network", arXiv 1503.02531,
    section 2, for two classes at temperature 1: smallest where both give the same score.
    """
    return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(teacher_logits))
