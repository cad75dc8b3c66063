"""What one training is made of; ``training.loop`` carries it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qtool.config.training import Training, TrainQat
from qtool.data.memory_map import Rows
from qtool.training.batches import steps_per_epoch
from qtool.training.logs import Log
from qtool.training.metrics import Metric
from qtool.training.parallel import Place

Inputs = dict[str, Tensor]
Judge = Callable[[Inputs, Tensor | None], tuple[Tensor, Tensor | None]]
"""(inputs, labels) → mean loss and what the metric reads."""


@dataclass(frozen=True)
class Objective:
    """What is trained, as functions of a mini-batch.

    Attributes:
        loss: (inputs, labels) → mean loss, shape ().
        judge: the same loss, and what ``metric`` reads, of the model as it is kept.
        metric: None where the task has none.
    """

    loss: Callable[[Inputs, Tensor | None], Tensor]
    judge: Judge
    metric: Metric | None


@dataclass(frozen=True)
class Fit:
    """All that one training is made of.

    Attributes:
        title: what the progress calls it.
        module: trained in place.
        objective: what is minimised and judged.
        groups: parameter groups, each with its ``initial_lr`` and ``weight_decay``.
        rows: trained on.
        validation: judged on after every epoch, and before the first.
        section: epochs, batch size, schedule, steps between checkpoints.
        seed: of the row order and of what the steps draw.
        place: where it is trained.
        checkpoint: file of the training state.
        phase: called before every step with the position in epochs, and before judging with
            infinity.
        reference: loss and metric of the FP32 model on the validation rows, if that is another.
        logs: what is told of steps and epochs; only the first process has any.
    """

    title: str
    module: nn.Module
    objective: Objective
    groups: list[dict[str, Any]]
    rows: Rows
    validation: Rows
    section: Training | TrainQat
    seed: int
    place: Place
    checkpoint: Path
    phase: Callable[[float], None] = lambda _: None
    reference: Judge | None = None
    logs: Sequence[Log] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps in one epoch."""
        return steps_per_epoch(
            len(self.rows), self.section.batch_size, self.place.parallel.processes
        )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the training."""
        return self.section.epochs * self.steps

    def identity(self) -> dict[str, Any]:
        """Returns what a checkpoint must have been made from, as plain values by name."""
        return {
            **self.section.settings(),
            "title": self.title,
            "seed": self.seed,
            "threads": self.place.threads,
            "device": self.place.device.type,
            "processes": self.place.parallel.processes,
            "rows": len(self.rows),
            "validation_rows": len(self.validation),
            "shapes": {k: list(v.shape) for k, v in self.module.state_dict().items()},
        }
