"""What training minimises and shows: the loss, the metric and the distillation of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from qtool.config.losses import (
    BinaryCrossEntropy,
    Contrastive,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    NextToken,
)
from qtool.config.model import Output
from qtool.config.task import Task
from qtool.errors import ConfigError, ModelError
from qtool.training import losses
from qtool.training.metrics import ACCURACY, AUC, RMSE, TOKEN_ACCURACY, Metric
from qtool.training.outputs import (
    Tensors,
    best_tags,
    binary_logits,
    class_logits,
    first_output,
    next_token_logits,
    tag_logits,
)
from qtool.training.task_losses import LossFunction, loss_function, tokens_of

USUAL: dict[Task, Loss] = {
    "binary_classification": BinaryCrossEntropy(name="bce"),
    "multiclass_classification": CrossEntropy(name="cross_entropy"),
    "regression": MeanSquaredError(name="mse"),
    "language_model": NextToken(name="next_token"),
    "representation": Contrastive(name="contrastive"),
    "sequence_tagging": CrossEntropy(name="cross_entropy"),
}
"""The loss of a task when the config names none."""

TASKS_OF: dict[str, tuple[Task, ...]] = {
    "bce": ("binary_classification",),
    "focal": ("binary_classification", "multiclass_classification", "sequence_tagging"),
    "cross_entropy": ("multiclass_classification", "sequence_tagging"),
    "mse": ("regression",),
    "huber": ("regression",),
    "quantile": ("regression",),
    "gaussian_nll": ("regression",),
    "contrastive": ("representation",),
    "next_token": ("language_model",),
}
"""Loss → the tasks whose labels and outputs it reads; a function of the user reads any."""


@dataclass(frozen=True)
class Criterion:
    """The loss and the metric of one task.

    Attributes:
        task: decides what outputs and labels mean.
        output: whether the model returns logits or probabilities.
        section: the loss as configured.
        loss: computes it.
    """

    task: Task
    output: Output
    section: Loss
    loss: LossFunction

    @property
    def metric(self) -> Metric | None:
        """The metric, None where only the loss says how good the model is."""
        if self.task == "binary_classification":
            return AUC
        if self.task == "multiclass_classification":
            return ACCURACY
        if self.task == "sequence_tagging":
            return TOKEN_ACCURACY
        return RMSE if isinstance(self.section, MeanSquaredError | Huber) else None

    def predictions(self, outputs: Tensors) -> Tensor | None:
        """Returns what the metric reads, rows first; None where there is no metric."""
        if self.metric is None:
            return None
        output = first_output(outputs)
        if self.task == "binary_classification":
            return binary_logits(output, self.output)
        if self.task == "multiclass_classification":
            return class_logits(output, self.output)
        if self.task == "sequence_tagging":
            return best_tags(output)
        return output.reshape(len(output), -1)

    def distillation(
        self,
        outputs: Tensors,
        teacher: Tensors,
        inputs: Tensors,
        temperature: float,
        teacher_output: Output,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Returns how far the outputs are from those of a teacher on the same rows.

        Classes are compared by cross-entropy, numbers and embeddings by their mean squared error.

        Args:
            outputs: of the model that is trained.
            teacher: outputs of the teacher, in the same order.
            inputs: of both.
            temperature: softens classes.
            teacher_output: whether the teacher returns logits or probabilities.
            labels: of the rows; they say which steps of sequence_tagging are compared: without
                them all are.

        Raises:
            ModelError: outputs that cannot be compared.
        """
        own, other = first_output(outputs), first_output(teacher)
        if self.task == "binary_classification":
            pair = binary_logits(own, self.output), _taught(binary_logits, other, teacher_output)
            return losses.soft_binary(*pair, temperature)
        if self.task == "multiclass_classification":
            logits = class_logits(own, self.output), _taught(class_logits, other, teacher_output)
            return losses.soft_classes(*_alike(*logits), temperature)
        if self.task == "sequence_tagging":
            own, other = _alike(own, other)
            tags = own.new_zeros(own.shape[:2]) if labels is None else labels
            taught = tag_logits(other, tags, teacher_output)[0]
            return losses.soft_classes(tag_logits(own, tags, self.output)[0], taught, temperature)
        if isinstance(self.section, NextToken):
            own, other = _alike(own, other)
            tokens, ignore = tokens_of(self.section, inputs), self.section.ignore
            student, taught = (next_token_logits(x, tokens, ignore)[0] for x in (own, other))
            return losses.soft_classes(student, taught, temperature)
        if len(outputs) != len(teacher):
            found = f"the teacher has {len(teacher)} outputs, the model {len(outputs)}"
            raise ModelError("distill.teacher", found, "as many")
        if self.task == "regression":  # (rows,) and (rows, 1) say the same
            outputs, teacher = _by_rows(outputs), _by_rows(teacher)
        pairs = map(_alike, outputs.values(), teacher.values())
        return torch.stack([functional.mse_loss(own, other) for own, other in pairs]).sum()


def criterion(section: Loss | None, task: Task, output: Output) -> Criterion:
    """Returns the criterion of a task.

    Args:
        section: the configured loss; None for the usual one.
        task: what the labels mean.
        output: whether the model returns logits or probabilities.

    Raises:
        ConfigError: the loss belongs to another task.
        ModelError: the function of the user cannot be found.
    """
    section = USUAL[task] if section is None else section
    known = TASKS_OF.get(section.name, (task,))
    if task not in known:
        raise ConfigError(
            "loss",
            f"{section.name} in the task {task}",
            f"the loss {USUAL[task].name} or another one of this task",
            f"{section.name} is for {' and '.join(known)}.",
        )
    return Criterion(task, output, section, loss_function(section, task, output))


def _alike(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if own.shape != other.shape:
        found = f"an output of shape {(*other.shape,)}"
        raise ModelError("distill.teacher", found, f"{(*own.shape,)}, as the model has")
    return own, other


def _taught(read: Callable[[Tensor, Output], Tensor], output: Tensor, kind: Output) -> Tensor:
    """Returns what ``read`` makes of an output of the teacher, which an error names."""
    try:
        return read(output, kind)
    except ModelError as error:
        found = f"an output of shape {(*output.shape,)}"
        raise ModelError("distill.teacher", found, error.expected) from error


def _by_rows(outputs: Tensors) -> Tensors:
    return {name: output.reshape(len(output), -1) for name, output in outputs.items()}
