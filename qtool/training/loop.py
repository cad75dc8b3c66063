"""The one training loop: mini-batches, schedule, checkpoints, the best epoch kept.

A run that is killed and started again ends with the same bytes as one that was not: the order of
the rows follows from (seed, epoch), what a step draws and its learning rate from (epoch, step), all
else is in the checkpoint.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtool.errors import ConfigError, ModelError
from qtool.history import EpochRecord, History
from qtool.progress import TableTask
from qtool.training.augment import augmentation
from qtool.training.average import MovingAverage
from qtool.training.batches import epoch_order, take
from qtool.training.checkpoint import State, load_state, save_state
from qtool.training.distillation import model_inputs
from qtool.training.epoch_table import add_rows, columns
from qtool.training.fit import Fit, Inputs, Judge
from qtool.training.judging import judged
from qtool.training.reproducible import reproducible, seed_step

LOGGED_STEPS = 10
"""Steps between two values in the logs."""


@dataclass
class Position:
    """How far a training is.

    Attributes:
        epoch: the current epoch.
        step: steps of it that are done.
        rows: rows in those steps, of this process.
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


def fit(run: Fit) -> History:
    """Trains to the last epoch, leaves the weights of the best one in the module, in eval mode.

    Epoch 0 is the model as given: training never ends with a worse model than it began.

    Raises:
        ConfigError: an option does not fit the task.
        DataError: there are too few rows.
        ModelError: the loss is not finite.
        StaleArtifactError: the checkpoint is damaged or belongs to another run.
        OutputError: the checkpoint cannot be written.
    """
    _check(run)
    with reproducible(run.work.place.threads):
        run.module.to(run.work.place.device)
        run.work.place.parallel.share_weights(run.module)
        fitting = _Fitting(run)
        heads = columns(fitting.history())
        with run.work.progress.table(run.title, heads, run.total_steps, done=fitting.done) as table:
            fitting.work(table)
        run.module.to("cpu")
    return fitting.history()


def learning_rate_factor(schedule: str, step: int, total: int, warmup: int = 0) -> float:
    """Returns what the learning rate is multiplied by in one step.

    It rises to 1 over ``warmup`` steps, then stays, falls in a line, or as a cosine, towards 0.

    Source: Loshchilov and Hutter 2017, "SGDR", arXiv 1608.03983, equation 5, without restarts.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    return 1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def _check(run: Fit) -> None:
    section, processes = run.section, run.work.place.parallel.processes
    if section.keep == "metric" and run.objective.metric is None:
        raise ConfigError("keep", "metric, which this loss has not", "loss")
    if section.batch_size < processes:
        found = f"{section.batch_size} with {processes} processes"
        raise ConfigError("batch_size", found, "at least one row for each process")
    if section.warmup_steps >= run.total_steps:
        found = f"{section.warmup_steps} in a training of {run.total_steps} steps"
        raise ConfigError("warmup_steps", found, "fewer than the steps of the training")


class _Fitting:
    """One training at work."""

    def __init__(self, run: Fit) -> None:
        self.run, self.section = run, run.section
        self.optimizer = _optimizer(run)
        self.parameters = [p for group in run.groups for p in group["params"]]
        self.average = None if run.section.ema is None else _average(run)
        self.augment = augmentation(
            run.section.augment,
            self._loss,
            list(model_inputs(run.work.rows.inputs)),
            run.work.columns,
        )
        self.position = Position()
        self.reference: tuple[float | None, float | None] = (None, None)
        if run.reference is not None:
            self.reference = self._judged(run.reference)
        saved = load_state(run.work.checkpoint, run.identity())
        if saved is None:
            self._end_epoch(None, None)
        else:
            self._restore(saved)

    @property
    def done(self) -> int:
        """Steps from the start of training."""
        return (self.position.epoch - 1) * self.run.steps + self.position.step

    def work(self, table: TableTask) -> None:
        """Trains to the end and loads the best state."""
        position = self.position
        add_rows(table, self.history())
        for record in position.records:
            self._log_epoch(record)
        while position.epoch <= self.section.epochs and not self._stalled():
            rate = self._train_epoch(table)
            totals = self.run.work.place.parallel.gather([(position.loss, position.rows)])
            loss = math.fsum(loss for loss, _ in totals) / sum(rows for _, rows in totals)
            self._end_epoch(loss, rate)
            self._save()
            add_rows(table, self.history(), first=len(position.records) - 1)
            self._log_epoch(position.records[-1])
        self.run.module.load_state_dict(position.best)
        self.run.module.eval()

    def history(self) -> History:
        """Returns what was recorded."""
        metric = self.run.objective.metric
        return History(
            self.run.title,
            None if metric is None else metric.name,
            metric is None or metric.higher_is_better,
            *self.reference,
            self.section.keep,
            tuple(self.position.records),
        )

    def _train_epoch(self, table: TableTask) -> float:
        run, position, size = self.run, self.position, self.section.batch_size
        order = epoch_order(len(run.work.rows), run.work.seed, position.epoch)
        run.module.train()
        rate = 0.0
        while position.step < run.steps:
            rate = self._set_learning_rate(self.done)
            run.phase(self.done / run.steps)
            loss, trained = self._step(order[position.step * size : (position.step + 1) * size])
            position.step += 1
            position.rows += trained
            position.loss += self._finite(loss) * trained
            if position.step % self.section.checkpoint_steps == 0:
                self._save()
            if self.done % LOGGED_STEPS == 0:
                for log in run.work.logs:
                    log.step(self.done, {"loss": loss, "learning_rate": rate})
            table.advance(1, f"epoch {position.epoch}, loss {position.loss / position.rows:.4f}")
        return rate

    def _step(self, batch: NDArray[np.int64]) -> tuple[float, int]:
        """Makes one optimizer step; returns loss and rows of this process."""
        run, position = self.run, self.position
        seed_step(run.work.seed, position.epoch, position.step, run.work.place.parallel.rank)
        chosen = run.work.place.parallel.share(batch)
        inputs, labels = self.augment(*take(run.work.rows, chosen, run.work.place.device))
        loss = self._loss(inputs, labels)
        self.optimizer.zero_grad()
        # The share of each process counts by its rows, so that the sum is the mean of the batch.
        (loss * (len(chosen) / len(batch))).backward()  # type: ignore[no-untyped-call]
        run.work.place.parallel.sum_gradients(self.parameters)
        if self.section.clip_gradient is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.section.clip_gradient)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return loss.item(), len(chosen)

    def _loss(self, inputs: Inputs, labels: Tensor | None) -> Tensor:
        loss = self.run.objective.loss(inputs, labels)
        if not loss.requires_grad:
            raise ModelError(
                self.run.title,
                "the loss depends on nothing that is trained",
                "a loss that torch computes from outputs with a gradient",
                "Check the function of the loss, and which layers are frozen.",
            )
        return loss

    def _end_epoch(self, train_loss: float | None, rate: float | None) -> None:
        """Judges, keeps the state if it is the best so far, and moves on to the next epoch."""
        run, position = self.run, self.position
        run.work.place.parallel.share_buffers(run.module)
        with nullcontext() if self.average is None else self.average.applied():
            loss, metric = self._judged(run.objective.judge)
            record = EpochRecord(position.epoch, train_loss, loss, metric, rate)
            position.records.append(record)
            if self.history().best is record:
                state = run.module.state_dict()
                position.best = {name: tensor.clone() for name, tensor in state.items()}
        position.epoch, position.step = position.epoch + 1, 0
        position.rows, position.loss = 0, 0.0

    def _judged(self, judge: Judge) -> tuple[float, float | None]:
        loss, metric = judged(self.run, judge)
        return self._finite(loss), metric

    def _log_epoch(self, record: EpochRecord) -> None:
        for log in self.run.work.logs:
            log.epoch(record)

    def _stalled(self) -> bool:
        patience, records = self.section.early_stopping, self.position.records
        if patience is None:
            return False
        return records[-1].epoch - self.history().best.epoch >= patience

    def _set_learning_rate(self, step: int) -> float:
        section, total = self.section, self.run.total_steps
        factor = learning_rate_factor(section.schedule, step, total, section.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return section.learning_rate * factor

    def _finite(self, loss: float) -> float:
        if math.isfinite(loss):
            return loss
        raise ModelError(
            f"{self.run.title}, epoch {self.position.epoch}, step {self.position.step}",
            f"the loss is {loss}",
            "a finite number",
            "Lower learning_rate, set clip_gradient, or scale and clip the inputs (data.inputs).",
        )

    def _save(self) -> None:
        run, position = self.run, self.position
        run.work.place.parallel.share_buffers(run.module)
        sums = run.work.place.parallel.gather([(position.loss, position.rows)])
        if not run.work.place.parallel.first:
            return
        state: State = {
            "identity": run.identity(),
            "module": run.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "position": {**vars(position), "records": [asdict(r) for r in position.records]},
            "sums": sums,
        }
        save_state(state, run.work.checkpoint)

    def _restore(self, state: State) -> None:
        self.run.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.restore(state["average"])
        records = [EpochRecord(**record) for record in state["position"]["records"]]
        position = Position(**{**state["position"], "records": records})
        position.loss, position.rows = state["sums"][self.run.work.place.parallel.rank]
        self.position = position


def _optimizer(run: Fit) -> torch.optim.Optimizer:
    if run.section.optimizer == "adamw":
        return torch.optim.AdamW(run.groups, fused=True)
    return torch.optim.SGD(run.groups, lr=1.0, momentum=run.section.momentum, fused=True)


def _average(run: Fit) -> MovingAverage:
    assert run.section.ema is not None
    return MovingAverage(run.module, run.section.ema)
