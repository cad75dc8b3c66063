"""What a model returns, brought into the form that losses and metrics of a task read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qtool.config.model import Output
from qtool.config.task import IGNORED
from qtool.errors import ModelError

Tensors = Mapping[str, Tensor]

PROBABILITY_MARGIN = 1e-6
"""Probabilities are kept this far from 0 and 1, where their logit would be infinite."""


def first_output(outputs: Tensors) -> Tensor:
    """Returns the output that scores are read from; ``evaluate`` reads the same."""
    return next(iter(outputs.values()))


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
        raise wrong_shape(output, "(rows,), (rows, 1) or (rows, 2)")
    return output if kind == "logit" else torch.logit(output, eps=PROBABILITY_MARGIN)


def class_logits(output: Tensor, kind: Output) -> Tensor:
    """Returns logits up to a constant, shape (rows, classes).

    Args:
        output: shape (rows, classes).
        kind: whether ``output`` holds logits or probabilities.

    Raises:
        ModelError: another shape.
    """
    if output.ndim != 2 or output.shape[1] < 2:
        raise wrong_shape(output, "(rows, classes)")
    return output if kind == "logit" else output.clamp_min(PROBABILITY_MARGIN).log()


def check_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns integer labels that index the columns of ``logits`` (rows, classes).

    Raises:
        ModelError: a label is beyond the model's classes.
    """
    labels = labels.long()
    if labels.numel() and int(labels.max()) >= logits.shape[1]:
        found = f"{logits.shape[1]} classes, and a row of class {int(labels.max())}"
        raise ModelError("model output", found, "a logit for every class", "Check data.label.")
    return labels


def targets(output: Tensor, labels: Tensor, numbers: int = 1) -> tuple[Tensor, Tensor]:
    """Returns predictions (rows, targets, numbers) and labels (rows, targets).

    Args:
        output: as many values per row, in any shape: target by target, each with its numbers.
        labels: shape (rows,) or (rows, targets).
        numbers: what the model predicts for one target: 1, or one per quantile.

    Raises:
        ModelError: there are more or fewer values.
    """
    labels = labels.reshape(len(labels), -1)
    wanted = labels.shape[1] * numbers
    if output.shape[:1] != labels.shape[:1] or output[0].numel() != wanted:
        raise wrong_shape(output, f"{len(labels)} rows of {wanted} values")
    return output.reshape(len(labels), -1, numbers), labels


def next_token_logits(output: Tensor, tokens: Tensor, ignore: int | None) -> tuple[Tensor, Tensor]:
    """Returns the logits (n, vocabulary) of all predicted tokens, and those tokens (n,).

    Args:
        output: shape (rows, steps, vocabulary); step i predicts token i + 1.
        tokens: integers, shape (rows, steps).
        ignore: a token that is not predicted.

    Raises:
        ModelError: the shapes do not belong together.
    """
    if output.ndim != 3 or output.shape[:2] != tokens.shape:
        raise wrong_shape(output, f"{(*tokens.shape,)} and the vocabulary")
    if tokens.shape[1] < 2:
        raise ModelError("loss", f"{tokens.shape[1]} token per row", "at least two, to predict one")
    logits, wanted = output[:, :-1].flatten(0, 1), tokens[:, 1:].flatten().long()
    if ignore is not None:
        kept = wanted != ignore
        logits, wanted = logits[kept], wanted[kept]
    unknown = wanted[(wanted < 0) | (wanted >= output.shape[2])]
    if len(unknown):
        found = f"a vocabulary of {output.shape[2]}, and the token {int(unknown[0])}"
        raise ModelError("model output", found, "a logit for every token", "Check data.inputs.")
    return logits, wanted


def tag_logits(output: Tensor, labels: Tensor, kind: Output) -> tuple[Tensor, Tensor]:
    """Returns logits (n, tags) of the tokens whose tag counts, and those tags (n,).

    Args:
        output: shape (rows, steps, tags).
        labels: integers, shape (rows, steps), ``IGNORED`` where no tag counts.
        kind: whether ``output`` holds logits or probabilities.

    Raises:
        ModelError: the shapes do not belong together, or a tag is beyond those of the model.
    """
    if output.ndim != 3 or output.shape[:2] != labels.shape:
        raise wrong_shape(output, f"{(*labels.shape,)} and the tags")
    counted = labels != IGNORED
    logits = class_logits(output[counted], kind)
    return logits, check_classes(logits, labels[counted])


def best_tags(output: Tensor) -> Tensor:
    """Returns the tag of every token, (rows, steps), of an output (rows, steps, tags).

    Raises:
        ModelError: another shape.
    """
    if output.ndim != 3:
        raise wrong_shape(output, "(rows, steps, tags)")
    return output.argmax(dim=2)


def wrong_shape(output: Tensor, expected: str) -> ModelError:
    """Returns the error for an output that does not fit the loss."""
    shape = ", ".join(str(size) for size in output.shape)
    return ModelError("model output", f"shape ({shape})", expected)
