"""The one training loop: mini-batches, schedule, checkpoints, the best epoch kept.

A run that is killed and started again ends with the same bytes as one that was not: the order of
the rows follows from (seed, epoch), the learning rate from the step, all else is in the checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from qtool.config.training import Training, TrainQat
from qtool.data.memory_map import Rows
from qtool.errors import ModelError
from qtool.progress import Progress, Task
from qtool.training.batches import epoch_order, in_order, steps_per_epoch, take
from qtool.training.checkpoint import State, load_state, save_state
from qtool.training.history import EpochRecord, History, ranking_auc
from qtool.training.objective import Objective
from qtool.training.reproducible import reproducible

VALIDATION_BATCH = 4096
"""Rows validated at a time: it decides the order of float sums, so it is fixed."""


@dataclass(frozen=True)
class Fit:
    """All that one training is made of.

    Attributes:
        title: what the progress calls it.
        module: trained in place.
        objective: the loss that is minimised, and that chooses the best epoch.
        groups: parameter groups of AdamW, each with its ``initial_lr`` and ``weight_decay``.
        rows: trained on.
        validation: judged on after every epoch, and before the first.
        section: epochs, batch size, schedule, steps between checkpoints.
        seed: of the row order and of dropout.
        threads: CPU threads.
        checkpoint: file of the training state.
    """

    title: str
    module: nn.Module
    objective: Objective
    groups: list[dict[str, Any]]
    rows: Rows
    validation: Rows
    section: Training | TrainQat
    seed: int
    threads: int
    checkpoint: Path

    @property
    def steps(self) -> int:
        """Optimizer steps in one epoch."""
        return steps_per_epoch(len(self.rows.labels), self.section.batch_size)

    def identity(self) -> str:
        """Returns what a checkpoint must have been made from."""
        return json.dumps(
            {
                "title": self.title,
                "section": self.section.model_dump(),
                "seed": self.seed,
                "threads": self.threads,
                "rows": len(self.rows.labels),
                "validation_rows": len(self.validation.labels),
                "shapes": {k: list(v.shape) for k, v in self.module.state_dict().items()},
            }
        )


@dataclass
class Position:
    """How far a training is.

    Attributes:
        epoch: the current epoch.
        step: steps of it that are done.
        rows: rows in those steps.
        loss: sum of the losses of those rows.
        records: the epochs that ended.
        best: state of the module after the best of them.
    """

    epoch: int = 0
    step: int = 0
    rows: int = 0
    loss: float = 0.0
    records: list[EpochRecord] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


def fit(run: Fit, progress: Progress) -> History:
    """Trains to the last epoch, leaves the weights of the best one in the module, in eval mode.

    Epoch 0 is the model as given: training never ends with a worse validation loss than it began.

    Raises:
        DataError: there are too few rows.
        ModelError: the loss is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
        OutputError: the checkpoint cannot be written.
    """
    identity = run.identity()
    with reproducible(run.seed, run.threads):
        optimizer = torch.optim.AdamW(run.groups, fused=True)
        saved = load_state(run.checkpoint, identity)
        if saved is None:
            position = Position()
            _end_epoch(run, position, None)
        else:
            position = _restore(run, optimizer, saved)

        def save() -> None:
            save_state(_state(run, optimizer, position, identity), run.checkpoint)

        with progress.task(run.title, total=run.section.epochs * run.steps) as task:
            task.advance((position.epoch - 1) * run.steps + position.step)
            while position.epoch <= run.section.epochs:
                _train_epoch(run, optimizer, position, save, task)
                _end_epoch(run, position, position.loss / position.rows)
                save()
        run.module.load_state_dict(position.best)
        run.module.eval()
    return History(tuple(position.records))


def learning_rate_factor(schedule: Literal["cosine", "constant"], step: int, total: int) -> float:
    """Returns what the learning rate is multiplied by in one step, from 1 towards 0 for cosine.

    Source: Loshchilov and Hutter 2017, "SGDR", arXiv 1608.03983, equation 5, without restarts.
    """
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * step / total))


def _train_epoch(
    run: Fit,
    optimizer: torch.optim.Optimizer,
    position: Position,
    save: Callable[[], None],
    task: Task,
) -> None:
    order = epoch_order(len(run.rows.labels), run.seed, position.epoch)
    size, section = run.section.batch_size, run.section
    run.module.train()
    while position.step < run.steps:
        done = (position.epoch - 1) * run.steps + position.step
        factor = learning_rate_factor(section.schedule, done, section.epochs * run.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        chosen = order[position.step * size : (position.step + 1) * size]
        loss, _ = run.objective(*take(run.rows, chosen))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        position.step += 1
        position.rows += len(chosen)
        position.loss += _finite(loss.item(), run, position) * len(chosen)
        if position.step % section.checkpoint_steps == 0:
            save()
        task.advance(1, f"epoch {position.epoch}, loss {position.loss / position.rows:.4f}")


def _end_epoch(run: Fit, position: Position, train_loss: float | None) -> None:
    """Validates, keeps the state if it is the best so far, and moves on to the next epoch."""
    loss, auc = _validate(run, position)
    record = EpochRecord(position.epoch, train_loss, loss, auc)
    position.records.append(record)
    if History(tuple(position.records)).best is record:
        position.best = {name: t.clone() for name, t in run.module.state_dict().items()}
    position.epoch, position.step = position.epoch + 1, 0
    position.rows, position.loss = 0, 0.0


def _validate(run: Fit, position: Position) -> tuple[float, float | None]:
    run.module.eval()
    total, logits, rows = 0.0, [], len(run.validation.labels)
    with torch.no_grad():
        for inputs, labels in in_order(run.validation, VALIDATION_BATCH):
            loss, scored = run.objective(inputs, labels)
            total += loss.item() * len(labels)
            logits.append(scored.numpy())
    labels_all = np.asarray(run.validation.labels)
    return _finite(total / rows, run, position), ranking_auc(labels_all, np.concatenate(logits))


def _finite(loss: float, run: Fit, position: Position) -> float:
    if math.isfinite(loss):
        return loss
    raise ModelError(
        f"{run.title}, epoch {position.epoch}, step {position.step}",
        f"the loss is {loss}",
        "a finite number",
        "Lower learning_rate, or scale and clip the inputs (data.inputs).",
    )


def _state(run: Fit, optimizer: torch.optim.Optimizer, position: Position, identity: str) -> State:
    return {
        "identity": identity,
        "module": run.module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "position": {**vars(position), "records": [asdict(r) for r in position.records]},
    }


def _restore(run: Fit, optimizer: torch.optim.Optimizer, state: State) -> Position:
    run.module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    records = [EpochRecord(**record) for record in state["position"]["records"]]
    return Position(**{**state["position"], "records": records})
