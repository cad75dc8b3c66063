"""Learning from labels and from a teacher, which any training may have.

A teacher that takes the inputs of the model is asked about every mini-batch, as augmentation leaves
it. One with inputs of its own was asked before: what it said of a row lies beside the inputs of the
row, under the names of ``stored_name``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from qtool.config.model import Output
from qtool.config.training import Distill, Distillation
from qtool.errors import ConfigError
from qtool.training.fit import Inputs, Objective
from qtool.training.losses import feature_distance
from qtool.training.objective import Criterion
from qtool.training.outputs import Tensors

Forward = Callable[[Inputs, Sequence[str]], dict[str, Tensor]]
"""(inputs, names of inner values) → outputs, and those values, by name."""
Value = TypeVar("Value")

PREFIX = "teacher: "


@dataclass(frozen=True)
class Teacher:
    """What a model learns from besides the labels.

    Attributes:
        forward: runs it, without gradients.
        output: whether its first output holds logits or probabilities.
        output_names: its outputs that are learned from, in their order.
    """

    forward: Forward
    output: Output
    output_names: Sequence[str]


def stored_name(name: str) -> str:
    """Returns under which name the rows hold the value ``name`` of a teacher."""
    return f"{PREFIX}{name}"


def stored_values(names: Iterable[str]) -> list[str]:
    """Returns which values of a teacher the rows hold, by the names of all that they hold."""
    return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]


def model_inputs(inputs: dict[str, Value]) -> dict[str, Value]:
    """Returns the inputs without what a teacher said."""
    return {name: value for name, value in inputs.items() if not name.startswith(PREFIX)}


def stored_teacher(names: Sequence[str], output: Output, features: Sequence[str] = ()) -> Teacher:
    """Returns the teacher whose answers lie beside the inputs.

    Args:
        names: its values that the rows hold.
        output: whether its first output holds logits or probabilities.
        features: which of the values are none of its outputs.
    """

    def forward(inputs: Inputs, wanted: Sequence[str]) -> dict[str, Tensor]:
        del wanted
        return {name: inputs[stored_name(name)] for name in names}

    return Teacher(forward, output, [name for name in names if name not in features])


class Taught:
    """The loss of a model that learns from labels and, with ``distill``, from a teacher.

    With distillation of weight w it is (1 - w) * loss of the labels + w * distillation loss, and
    the relative squared difference of the chosen inner values.
    """

    def __init__(
        self,
        forward: Forward,
        criterion: Criterion,
        teacher: Teacher | None,
        distill: Distillation | None,
        output_names: Sequence[str] | None = None,
    ) -> None:
        """Says what is trained, on what.

        Args:
            forward: runs the model.
            criterion: loss and metric.
            teacher: needed with ``distill``.
            distill: how it is learned from; None: from the labels only.
            output_names: of the model, where ``forward`` returns more; None: all that it returns.
        """
        self.output_names = output_names
        self.forward, self.criterion = forward, criterion
        self.teacher, self.distill = teacher, distill
        self.features = distill.features if isinstance(distill, Distill) else {}

    @property
    def objective(self) -> Objective:
        """What the training loop minimises and judges."""
        return Objective(self.loss, self.judge, self.criterion.metric)

    def loss(self, inputs: Inputs, labels: Tensor | None) -> Tensor:
        """Returns the mean loss of a mini-batch."""
        return self._loss_of(self.forward(model_inputs(inputs), [*self.features]), inputs, labels)

    def judge(self, inputs: Inputs, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns the same loss, and what the metric reads."""
        values = self.forward(model_inputs(inputs), [*self.features])
        loss = self._loss_of(values, inputs, labels)
        return loss, self.criterion.predictions(self._outputs(values))

    def _outputs(self, values: Tensors) -> dict[str, Tensor]:
        return {name: values[name] for name in self.output_names or values}

    def _loss_of(self, values: Tensors, inputs: Inputs, labels: Tensor | None) -> Tensor:
        distill, outputs, own = self.distill, self._outputs(values), model_inputs(inputs)
        if distill is None:
            return self.criterion.loss(outputs, labels, own)
        assert self.teacher is not None
        with torch.no_grad():
            taught = self.teacher.forward(inputs, [*self.features.values()])
        wanted = {name: taught[name] for name in self.teacher.output_names}
        softened = self.criterion.distillation(
            outputs, wanted, own, distill.temperature, self.teacher.output, labels
        )
        if distill.weight < 1:
            labelled = self.criterion.loss(outputs, labels, own)
            softened = (1 - distill.weight) * labelled + distill.weight * softened
        return softened + self._feature_loss(values, taught) if self.features else softened

    def _feature_loss(self, values: Tensors, taught: Tensors) -> Tensor:
        assert isinstance(self.distill, Distill)
        distances = []
        for own, other in self.features.items():
            shapes = (*values[own].shape,), (*taught[other].shape,)
            if shapes[0] != shapes[1]:
                found = f"{own!r} has the shape {shapes[0]}, {other!r} of the teacher {shapes[1]}"
                raise ConfigError("distill.features", found, "values of one shape")
            distances.append(feature_distance(values[own], taught[other]))
        return self.distill.feature_weight * torch.stack(distances).sum()
