"""What one training is made of; ``training.loop`` carries it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qtool.config.training import AnyTraining
from qtool.data.memory_map import Rows
from qtool.progress import Progress
from qtool.robustness.feasible import Movable
from qtool.training.batches import steps_per_epoch
from qtool.training.logs import Log
from qtool.training.metrics import Metric
from qtool.training.parallel import HERE, Place

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
class Work:
    """Where a training reads, keeps its state and shows itself: no choice of how to train.

    Attributes:
        rows: trained on.
        validation: judged on after every epoch, and before the first.
        seed: of the row order and of what the steps draw.
        checkpoint: file that an interrupted training goes on from.
        progress: shows the steps.
        place: where it is trained; the module is on the CPU again when it ends.
        logs: what is told of steps and epochs; only the first process has any.
        columns: what ``augment.adversarial.mutable`` became with the encoder, by model input.
    """

    rows: Rows
    validation: Rows
    seed: int
    checkpoint: Path
    progress: Progress
    place: Place = HERE
    logs: Sequence[Log] = ()
    columns: Mapping[str, Movable] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """All that one training is made of.

    Attributes:
        title: what the progress calls it.
        module: trained in place.
        objective: what is minimised and judged.
        groups: parameter groups, each with its ``initial_lr`` and ``weight_decay``.
        section: epochs, batch size, schedule, steps between checkpoints.
        work: rows, seed, place and files.
        phase: called before every step with the position in epochs, and before judging with
            infinity.
        reference: loss and metric of the FP32 model on the validation rows, if that is another.
    """

    title: str
    module: nn.Module
    objective: Objective
    groups: list[dict[str, Any]]
    section: AnyTraining
    work: Work
    phase: Callable[[float], None] = lambda _: None
    reference: Judge | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps in one epoch."""
        processes = self.work.place.parallel.processes
        return steps_per_epoch(len(self.work.rows), self.section.batch_size, processes)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the training."""
        return self.section.epochs * self.steps

    def identity(self) -> dict[str, Any]:
        """Returns what a checkpoint must have been made from, as plain values by name."""
        work = self.work
        return {
            **self.section.settings(),
            "title": self.title,
            "seed": work.seed,
            "threads": work.place.threads,
            "device": work.place.device.type,
            "processes": work.place.parallel.processes,
            "rows": len(work.rows),
            "validation_rows": len(work.validation),
            "shapes": {k: list(v.shape) for k, v in self.module.state_dict().items()},
        }
