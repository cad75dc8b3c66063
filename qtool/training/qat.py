"""Quantization-aware training: the deployed graph fine-tuned with its rounding in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qtool.config.model import Output
from qtool.config.training import TrainQat
from qtool.data.memory_map import Rows
from qtool.progress import Progress
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.history import History
from qtool.training.loop import Fit, fit
from qtool.training.objective import binary_logits, binary_loss, distillation_loss, only_output


def train_qat(
    graph: FakeQuantGraph,
    teacher: TorchGraph | None,
    rows: Rows,
    validation: Rows,
    section: TrainQat,
    *,
    seed: int,
    checkpoint: Path,
    progress: Progress,
    output: Output = "logit",
    threads: int = 1,
) -> History:
    """Fine-tunes weights, biases and scales of ``graph`` in place and returns the history.

    The loss is (1 - w) * cross-entropy with the labels + w * cross-entropy with the teacher's
    scores. The epoch with the smallest validation value of this loss is kept: it is smooth, where
    AUC and decisions move in jumps. Epoch 0, the quantized model before training, counts too.

    Args:
        graph: the fake-quant graph, one output.
        teacher: the FP32 graph; needed when ``section.distill`` is set, unused otherwise.
        rows: trained on.
        validation: judged on.
        section: the ``train_qat:`` section.
        seed: of the row order.
        checkpoint: file that an interrupted run goes on from.
        progress: shows the steps.
        output: what the graph returns.
        threads: CPU threads; the result depends on it.

    Raises:
        ModelError: an output of another shape, or a loss that is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
        ValueError: distillation without a teacher.
    """
    weight = 0.0 if section.distill is None else section.distill.weight
    if weight and teacher is None:
        raise ValueError("distillation needs a teacher")

    def objective(inputs: dict[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = binary_logits(only_output(graph(inputs)), output)
        loss = binary_loss(logits, labels, section.positive_weight)
        if weight and teacher is not None:
            with torch.no_grad():
                teacher_logits = binary_logits(only_output(teacher(inputs)), output)
            loss = (1 - weight) * loss + weight * distillation_loss(logits, teacher_logits)
        return loss, logits

    run = Fit(
        "train QAT",
        graph,
        objective,
        parameter_groups(graph, section),
        rows,
        validation,
        section,
        seed,
        threads,
        checkpoint,
    )
    return fit(run, progress)


def parameter_groups(graph: FakeQuantGraph, section: TrainQat) -> list[dict[str, Any]]:
    """Returns the weights, and the scales when they are learned, as groups of AdamW.

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
