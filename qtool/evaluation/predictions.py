"""What a model returned for a batch, in the form that the metrics of its task read.

The forms are those of ``sample``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from qtool.config.model import Output
from qtool.config.task import Task
from qtool.errors import ModelError
from qtool.runtime.sessions import to_scores

MAX_INT16 = 2**15
"""Tags that int16 tells apart."""
SUM_TOLERANCE = 1e-3
"""How far the probabilities of a row may be from 1 in sum: float16 models round so much."""


def predictions(task: Task, kind: Output, output: NDArray[Any], rows: int, where: str) -> Any:
    """Returns the predictions of one model for a batch; of tokens see ``tokens_of``, ``tags_of``.

    Args:
        task: any but language_model and sequence_tagging.
        kind: whether a classifier returns logits or probabilities.
        output: the first output of the model.
        rows: of the batch.
        where: the model, for messages.

    Raises:
        ModelError: a dtype or shape that the task has not, NaN, or no probabilities.
    """
    found: NDArray[Any]
    if task == "binary_classification":
        found = to_scores(output, kind, where)
    else:
        _check_numbers(output, where)
        if task == "multiclass_classification":
            found = _probabilities(output, kind, where)
        else:
            found = output.reshape(len(output), -1).astype(np.float32, copy=False)
    if len(found) != rows:
        raise ModelError(where, f"{len(found)} outputs for {rows} rows", "one output per row")
    return found


def tokens_of(
    logits: NDArray[Any], tokens: NDArray[Any], ignore: int | None, where: str
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns what a language model makes of the tokens of a batch.

    Args:
        logits: (rows, steps, vocabulary); step i predicts token i + 1.
        tokens: integers (rows, steps), the model's input.
        ignore: a token that is not predicted (padding).
        where: the model, for messages.

    Returns:
        The predictions (rows, 2) of ``sample``; the token that is put first, int64
        (rows, steps - 1); and which of them count, bool of the same shape.

    Raises:
        ModelError: shapes that do not belong together, or NaN.
    """
    _check_numbers(logits, where)
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape or tokens.shape[1] < 2:
        found = f"output of shape {logits.shape} for tokens of shape {tokens.shape}"
        raise ModelError(where, found, "(rows, steps, vocabulary) for (rows, steps) tokens")
    wanted = tokens[:, 1:].astype(np.int64)
    counted = np.ones(wanted.shape, bool) if ignore is None else wanted != ignore
    beyond = counted & ((wanted < 0) | (wanted >= logits.shape[2]))
    if beyond.any():
        found = f"a vocabulary of {logits.shape[2]}, and the token {wanted[beyond][0]}"
        raise ModelError(where, found, "a logit for every token", "Check data.inputs.")
    likelihoods = log_softmax(logits[:, :-1].astype(np.float64), axis=2)
    index = np.where(counted, wanted, 0)[..., None]
    losses = -np.take_along_axis(likelihoods, index, axis=2)[..., 0]
    sums = np.stack([(losses * counted).sum(axis=1), counted.sum(axis=1)], axis=1)
    return sums, likelihoods.argmax(axis=2), counted


def tags_of(output: NDArray[Any], labels: NDArray[Any], where: str) -> NDArray[Any]:
    """Returns the tag that a model gives to every token of a batch: the first of the largest.

    Args:
        output: (rows, steps, tags), logits or probabilities.
        labels: int32 (rows, steps), ``IGNORED`` where no tag counts.
        where: the model, for messages.

    Returns:
        (rows, steps), int16 or, of a model with more tags than fit, int32.

    Raises:
        ModelError: shapes that do not belong together, a label beyond the tags, or NaN.
    """
    _check_numbers(output, where)
    if output.ndim != 3 or output.shape[:2] != labels.shape:
        found = f"output of shape {output.shape} for tags of shape {labels.shape}"
        raise ModelError(where, found, "(rows, steps, tags) for (rows, steps) tags")
    tags = output.shape[2]
    if labels.size and labels.max() >= tags:
        found = f"{tags} tags, and a token with the tag {labels.max()}"
        raise ModelError(where, found, "a logit for every tag", "Check data.label.")
    first: NDArray[Any] = output.argmax(axis=2)
    return first.astype(np.int16 if tags <= MAX_INT16 else np.int32)


def _check_numbers(output: NDArray[Any], where: str) -> None:
    if not np.issubdtype(output.dtype, np.floating):
        raise ModelError(
            where, f"output of dtype {output.dtype}", "floats", "Put them first of the outputs."
        )
    if not np.isfinite(output).all():
        raise ModelError(where, "the output contains NaN or infinity", "finite numbers")


def _probabilities(output: NDArray[Any], kind: Output, where: str) -> NDArray[np.float32]:
    if output.ndim != 2 or output.shape[1] < 2:
        raise ModelError(where, f"output of shape {output.shape}", "(rows, classes)")
    if kind == "logit":
        return np.asarray(softmax(output.astype(np.float64), axis=1), np.float32)
    if output.min() < 0 or np.abs(output.sum(axis=1, dtype=np.float64) - 1).max() > SUM_TOLERANCE:
        raise ModelError(
            where,
            f"values from {output.min():.4g} to {output.max():.4g} as probabilities",
            "values in [0, 1] with the sum 1 in every row",
            "Set model.output: logit if the model returns logits.",
        )
    return output.astype(np.float32, copy=False)
