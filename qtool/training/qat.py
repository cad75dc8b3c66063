"""Quantization-aware training: the deployed graph fine-tuned with its rounding in the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qtool.config.model import Output
from qtool.config.training import Distill, TrainQat
from qtool.errors import ConfigError
from qtool.history import History
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.fit import Fit, Inputs, Objective, Work
from qtool.training.loop import fit
from qtool.training.losses import feature_distance
from qtool.training.objective import Criterion
from qtool.training.outputs import Tensors

Forward = Callable[[Inputs, Sequence[str]], dict[str, Tensor]]
"""(inputs, names of inner values) → outputs, and those values, by name."""


@dataclass(frozen=True)
class Teacher:
    """What the trained graph learns from besides the labels.

    Attributes:
        forward: runs it, without gradients.
        output: whether its first output holds logits or probabilities.
        output_names: its outputs that are learned from, in their order.
    """

    forward: Forward
    output: Output
    output_names: Sequence[str]


def train_qat(
    graph: FakeQuantGraph,
    fp32: TorchGraph,
    section: TrainQat,
    criterion: Criterion,
    work: Work,
    *,
    teacher: Teacher | None = None,
    forward: Forward | None = None,
) -> History:
    """Fine-tunes weights, biases and scales of ``graph`` in place and returns the history.

    With distillation of weight w the loss is (1 - w) * loss of the labels + w * distillation loss,
    and the relative squared difference of the chosen inner values. Epoch 0, the quantized model
    before training, can be the one that is kept.

    Args:
        graph: the fake-quant graph.
        fp32: the graph before quantization: the reference of the history, and the teacher when no
            other is given.
        section: the ``train_qat:`` section.
        criterion: loss and metric.
        work: rows, seed, place and files.
        teacher: another teacher than ``fp32``.
        forward: runs ``graph``; another function of the same values, as torch.compile makes it.

    Raises:
        ConfigError: an option does not fit the task.
        ModelError: an output of another shape, or a loss that is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
    """
    fp32.to(work.place.device)
    learn_from = teacher or Teacher(fp32, criterion.output, fp32.output_names)

    def judged(forward: Forward) -> _Taught:
        names = graph.graph.output_names
        return _Taught(forward, names, learn_from, criterion, section.distill)

    # A compiled module has no truth value: it asks the graph for its length.
    taught, reference = judged(graph if forward is None else forward), judged(fp32)
    run = Fit(
        "train QAT",
        graph,
        Objective(taught.loss, taught.judge, criterion.metric),
        parameter_groups(graph, section),
        section,
        work,
        phases(graph, section),
        reference.judge,
    )
    return fit(run)


class _Taught:
    """The loss of a graph that learns from labels and from a teacher."""

    def __init__(
        self,
        forward: Forward,
        output_names: Sequence[str],
        teacher: Teacher,
        criterion: Criterion,
        distill: Distill | None,
    ) -> None:
        self.forward, self.output_names = forward, output_names
        self.teacher, self.criterion, self.distill = teacher, criterion, distill
        self.features = {} if distill is None else distill.features

    def loss(self, inputs: Inputs, labels: Tensor | None) -> Tensor:
        return self._loss_of(self.forward(inputs, list(self.features)), inputs, labels)

    def judge(self, inputs: Inputs, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        values = self.forward(inputs, list(self.features))
        loss = self._loss_of(values, inputs, labels)
        return loss, self.criterion.predictions(self._outputs(values))

    def _outputs(self, values: Tensors) -> dict[str, Tensor]:
        return {name: values[name] for name in self.output_names}

    def _loss_of(self, values: Tensors, inputs: Inputs, labels: Tensor | None) -> Tensor:
        distill, outputs = self.distill, self._outputs(values)
        if distill is None:
            return self.criterion.loss(outputs, labels, inputs)
        with torch.no_grad():
            taught = self.teacher.forward(inputs, list(self.features.values()))
        wanted = {name: taught[name] for name in self.teacher.output_names}
        softened = self.criterion.distillation(
            outputs, wanted, inputs, distill.temperature, self.teacher.output, labels
        )
        if distill.weight < 1:
            labelled = self.criterion.loss(outputs, labels, inputs)
            softened = (1 - distill.weight) * labelled + distill.weight * softened
        for own, other in self.features.items():
            shapes = (*values[own].shape,), (*taught[other].shape,)
            if shapes[0] != shapes[1]:
                found = f"{own!r} has the shape {shapes[0]}, {other!r} of the teacher {shapes[1]}"
                raise ConfigError("distill.features", found, "values of one shape")
            distance = feature_distance(values[own], taught[other])
            softened = softened + distill.feature_weight * distance
        return softened


def phases(graph: FakeQuantGraph, section: TrainQat) -> Callable[[float], None]:
    """Returns what switches quantization on and learning of scales off as training goes on."""
    stages = section.progressive
    freeze = math.inf if stages.freeze_scales_from is None else stages.freeze_scales_from

    def phase(epoch: float) -> None:
        graph.quantize(
            weights=epoch >= stages.weights_from, activations=epoch >= stages.activations_from
        )
        if freeze <= epoch < math.inf:  # judging, at infinity, learns nothing
            graph.freeze_scales()

    return phase


def parameter_groups(graph: FakeQuantGraph, section: TrainQat) -> list[dict[str, Any]]:
    """Returns the weights, and the scales when they are learned, as groups of the optimizer.

    Scales are not decayed: decay would pull them to where they started. Their rate is that of the
    weights; what it moves is the logarithm of the scale.
    """
    rate = section.learning_rate
    weights = {
        "params": list(graph.graph.parameters()),
        "initial_lr": rate,
        "weight_decay": section.weight_decay,
    }
    if not section.learn_scales:
        return [weights]
    scales = {"params": [graph.log_scale_factors], "initial_lr": rate, "weight_decay": 0.0}
    return [weights, scales]
