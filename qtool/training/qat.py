"""Quantization-aware training: the deployed graph fine-tuned with its rounding in the loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from qtool.config.training import TrainQat
from qtool.history import History
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.distillation import Forward, Teacher
from qtool.training.fit import Fit, Work
from qtool.training.graph import taught_beside
from qtool.training.loop import fit
from qtool.training.objective import Criterion


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

    Epoch 0, the quantized model before training, can be the one that is kept.

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
    # A compiled module has no truth value: it asks the graph for its length.
    trained = graph if forward is None else forward
    taught, reference = taught_beside(trained, fp32, section, criterion, work, teacher)
    run = Fit(
        "train QAT",
        graph,
        taught.objective,
        parameter_groups(graph, section),
        section,
        work,
        phases(graph, section),
        reference.judge,
    )
    return fit(run)


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
