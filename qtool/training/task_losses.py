"""From a configured loss to the function of outputs, labels and inputs that computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from qtool.config.losses import (
    BinaryCrossEntropy,
    Contrastive,
    CrossEntropy,
    Focal,
    FunctionLoss,
    GaussianNll,
    Huber,
    Loss,
    NextToken,
    Quantile,
)
from qtool.config.model import Output
from qtool.config.task import Task
from qtool.errors import ConfigError, ModelError
from qtool.training import losses
from qtool.training.outputs import (
    Tensors,
    binary_logits,
    check_classes,
    class_logits,
    first_output,
    next_token_logits,
    tag_logits,
    targets,
)
from qtool.user_code import user_function, users_code

LossFunction = Callable[[Tensors, Tensor | None, Tensors], Tensor]
"""(outputs, labels, inputs) → mean loss, shape ()."""


def loss_function(section: Loss, task: Task, output: Output) -> LossFunction:
    """Returns what computes a configured loss.

    Args:
        section: the loss.
        task: decides what labels mean.
        output: whether the model returns logits or probabilities.

    Raises:
        ModelError: the function of the user cannot be found.
    """
    if isinstance(section, FunctionLoss):
        return _users(section)
    if isinstance(section, Contrastive):
        return lambda outputs, labels, _: _contrastive(section, outputs, labels)
    if isinstance(section, NextToken):
        return lambda outputs, _, inputs: losses.next_token(
            *next_token_logits(first_output(outputs), tokens_of(section, inputs), section.ignore)
        )
    of_first = _of_first_output(section, task, output)
    return lambda outputs, labels, _: of_first(first_output(outputs), _given(labels))


def _of_first_output(
    section: Loss, task: Task, output: Output
) -> Callable[[Tensor, Tensor], Tensor]:
    if isinstance(section, BinaryCrossEntropy):
        weight = section.positive_weight
        return lambda x, y: losses.binary_cross_entropy(binary_logits(x, output), y, weight)
    if isinstance(section, Focal) and task == "binary_classification":
        numbers = section.gamma, section.positive_weight
        return lambda x, y: losses.binary_focal(binary_logits(x, output), y, *numbers)
    if isinstance(section, CrossEntropy | Focal):
        return _of_classes(section, task, output)
    return _of_regression(section)


def _of_classes(
    section: CrossEntropy | Focal, task: Task, output: Output
) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if isinstance(section, Focal):
            return losses.focal(logits, labels, section.gamma)
        _check_class_weights(section, logits)
        return losses.cross_entropy(logits, labels, section.class_weights, section.label_smoothing)

    def of_rows(x: Tensor, y: Tensor) -> Tensor:
        logits = class_logits(x, output)
        return loss(logits, check_classes(logits, y))

    def of_tokens(x: Tensor, y: Tensor) -> Tensor:
        logits, tags = tag_logits(x, y, output)
        # A mini-batch, or the share of one process, may hold nothing but padding: the sum is 0.
        return loss(logits, tags) if len(tags) else logits.sum()

    return of_tokens if task == "sequence_tagging" else of_rows


def _of_regression(section: Loss) -> Callable[[Tensor, Tensor], Tensor]:
    def squared(output: Tensor, labels: Tensor) -> Tensor:
        predictions, wanted = targets(output, labels)
        return functional.mse_loss(predictions[..., 0], wanted)

    def huber(output: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(section, Huber)
        predictions, wanted = targets(output, labels)
        return functional.huber_loss(predictions[..., 0], wanted, delta=section.delta)

    def quantile(output: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(section, Quantile)
        return losses.pinball(*targets(output, labels, len(section.quantiles)), section.quantiles)

    def gaussian(output: Tensor, labels: Tensor) -> Tensor:
        predictions, wanted = targets(output, labels, 2)
        # All means first, then all log variances.
        means, log_variances = predictions.flatten(1).chunk(2, dim=1)
        return losses.gaussian_nll(means, log_variances, wanted)

    if isinstance(section, Huber):
        return huber
    if isinstance(section, Quantile):
        return quantile
    return gaussian if isinstance(section, GaussianNll) else squared


def _check_class_weights(section: CrossEntropy, logits: Tensor) -> None:
    weights, classes = section.class_weights, logits.shape[1]
    if weights is not None and len(weights) != classes:
        found = f"{len(weights)} weights for {classes} classes"
        raise ConfigError("loss.class_weights", found, "one for each class")


def _contrastive(section: Contrastive, outputs: Tensors, labels: Tensor | None) -> Tensor:
    vectors = list(outputs.values())
    if len(vectors) == 2:
        return losses.info_nce(vectors[0], vectors[1], section.temperature)
    if len(vectors) == 1 and labels is not None:
        return losses.supervised_contrastive(vectors[0], labels, section.temperature)
    raise ModelError(
        "contrastive loss",
        f"{len(vectors)} outputs and {'no' if labels is None else 'a'} label",
        "two outputs (rows, d), or one output and a label",
    )


def tokens_of(section: NextToken, inputs: Mapping[str, Tensor]) -> Tensor:
    """Returns the input that holds the tokens.

    Raises:
        ConfigError: there is no such input, or several could be it.
    """
    if section.tokens is not None:
        if section.tokens not in inputs:
            found = f"{section.tokens!r} is no model input"
            raise ConfigError("loss.tokens", found, f"one of {', '.join(inputs)}")
        return inputs[section.tokens]
    integers = [x for x in inputs.values() if not x.is_floating_point() and x.dtype != torch.bool]
    if len(integers) != 1:
        found = f"{len(integers)} integer inputs"
        raise ConfigError("loss", found, "one that holds the tokens", "Name it in loss.tokens.")
    return integers[0]


def _users(section: FunctionLoss) -> LossFunction:
    where = f"loss.function {section.function!r}"
    expected = "a function loss(outputs, labels, inputs)"
    function = user_function(section.function, section.pythonpath, where, expected)

    def loss(outputs: Tensors, labels: Tensor | None, inputs: Tensors) -> Tensor:
        given = [*outputs.values(), *inputs.values(), *([] if labels is None else [labels])]
        versions = [tensor._version for tensor in given]
        with users_code(where, "Correct that code."):
            found = function(dict(outputs), labels, dict(inputs), **section.arguments)
        if not isinstance(found, Tensor) or found.ndim != 0:
            raise ModelError(where, f"returned {_described(found)}", "a tensor of shape ()")
        # The metric and the distillation read the same tensors.
        if [tensor._version for tensor in given] != versions:
            expected = "a function that only reads them"
            raise ModelError(where, "changed a tensor in place", expected, "Clone it first.")
        return found

    return loss


def _described(value: object) -> str:
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    return f"a {type(value).__name__}{shape}"


def _given(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ConfigError("data.label", "not given", "the label that the loss needs")
    return labels
