"""What the two training stages share: rows, criterion, place, and what their keys depend on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qtool.commands.context import Context
from qtool.commands.prepare import dataset, require_label, source_sha256
from qtool.commands.teacher import scored_batches, teacher_content
from qtool.config.losses import FunctionLoss
from qtool.config.training import AnyTraining, FunctionAugment
from qtool.data.encoding import Encoder
from qtool.data.memory_map import Rows, open_rows
from qtool.progress import SilentProgress
from qtool.robustness.feasible import Movable, movable
from qtool.runtime.cpu import detect
from qtool.training.distillation import model_inputs
from qtool.training.fit import Work
from qtool.training.logs import Log, open_logs
from qtool.training.objective import Criterion, criterion
from qtool.training.parallel import Place, place

CHECKPOINT = "checkpoint.pt"
TRAINING, VALIDATION = "training", "validation"


class Job(NamedTuple):
    """What the first process of several tells the others to train with it.

    Attributes:
        stage: ``fp32``, ``pruned`` or ``train-qat``.
        folder: of the stage, with the rows that the first process has written.
        inputs: names of what the rows hold: the model's inputs, and what a teacher said.
        labels: whether the rows have labels.
        columns: that are moved in adversarial training.
        needs: what else that stage needs.
    """

    stage: str
    folder: Path
    inputs: list[str]
    labels: bool
    columns: Mapping[str, Movable]
    needs: dict[str, Any]

    @staticmethod
    def of(stage: str, folder: Path, work: Work, **needs: Any) -> Job:
        """Returns the job of doing the same ``work``."""
        rows = work.rows
        return Job(stage, folder, list(rows.inputs), rows.labels is not None, work.columns, needs)

    def work(self, context: Context, section: AnyTraining) -> Work:
        """Returns the work of the first process, for another one."""
        return Work(
            open_rows(self.folder / TRAINING, self.inputs, labels=self.labels),
            open_rows(self.folder / VALIDATION, self.inputs, labels=self.labels),
            context.experiment.seed,
            self.folder / CHECKPOINT,
            SilentProgress(),
            _place(section),
            columns=self.columns,
        )


def work_in(context: Context, section: AnyTraining, folder: Path) -> Work:
    """Returns what a stage trains with: rows as memory maps, and its state, below ``folder``.

    Training is judged on the calibration split: the evaluation split stays unseen.

    Raises:
        ConfigError: the data section names no label, and the task needs one; or the package of a
            log is not installed.
    """
    logs = _logs(context, section, folder)
    require_label(context.experiment, "training")
    data = dataset(context)
    scored = scored_batches(context, section.distill)
    training = data.materialize("training", folder / TRAINING, context.progress, scored("training"))
    validation = data.materialize(
        "calibration", folder / VALIDATION, context.progress, scored("calibration")
    )
    return Work(
        training,
        validation,
        context.experiment.seed,
        folder / CHECKPOINT,
        context.progress,
        _place(section),
        logs,
        _moved_columns(section, data.fitted.encoder, validation),
    )


def drop_scratch(folder: Path) -> None:
    """Removes what only an interrupted training needs."""
    for name in (TRAINING, VALIDATION):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def criterion_of(context: Context, section: AnyTraining) -> Criterion:
    """Returns loss and metric."""
    experiment = context.experiment
    return criterion(section.loss, experiment.task, experiment.model.output)


def _moved_columns(section: AnyTraining, encoder: Encoder, calibration: Rows) -> dict[str, Movable]:
    adversarial = section.augment.adversarial
    if adversarial is None or not adversarial.mutable:
        return {}
    where = "augment.adversarial.mutable"
    return movable(adversarial.mutable, encoder, model_inputs(calibration.inputs), where)


def _logs(context: Context, section: AnyTraining, folder: Path) -> list[Log]:
    # Outside of the folder of the stage: they hold times.
    name = f"{context.experiment.name}-{folder.name}"
    logs = open_logs(section.log, context.run.directory / "logs", name)
    for log in logs:
        log.start(section.settings())
    return logs


def _place(section: AnyTraining) -> Place:
    return place(section.device, detect().cores)


def settings(section: AnyTraining) -> dict[str, Any]:
    """Returns what a section adds to the key of its stage: itself, code of the user, a teacher."""
    return section.settings() | {
        "code": _code(section),
        "teacher": teacher_content(section.distill),
    }


def _code(section: AnyTraining) -> list[str | None]:
    named = (section.augment.function, section.loss)
    functions = [part for part in named if isinstance(part, FunctionAugment | FunctionLoss)]
    return [source_sha256(part.function, part.pythonpath) for part in functions]
