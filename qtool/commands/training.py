"""What the two training stages share: rows, criterion, place, and what their keys depend on."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from qtool.commands.context import Context
from qtool.commands.prepare import dataset, require_label
from qtool.config.losses import FunctionLoss
from qtool.config.training import Training, TrainQat
from qtool.data.memory_map import Rows, open_rows
from qtool.runs import sha256_of
from qtool.runtime.cpu import detect
from qtool.training.logs import Log, open_logs
from qtool.training.objective import Criterion, criterion
from qtool.training.parallel import Place, place

CHECKPOINT = "checkpoint.pt"
TRAINING, VALIDATION = "training", "validation"


class Job(NamedTuple):
    """What the first process of several tells the others to train with it.

    Attributes:
        stage: ``fp32`` or ``train-qat``.
        folder: of the stage, with the rows that the first process has written.
        inputs: names of the model's inputs.
        labels: whether the rows have labels.
        needs: what else that stage needs.
    """

    stage: str
    folder: Path
    inputs: list[str]
    labels: bool
    needs: dict[str, Any]

    @staticmethod
    def of(stage: str, folder: Path, rows: Rows, **needs: Any) -> Job:
        """Returns the job of training on ``rows``."""
        return Job(stage, folder, list(rows.inputs), rows.labels is not None, needs)

    def rows(self) -> tuple[Rows, Rows]:
        """Returns training and validation rows as the first process wrote them."""
        return (
            open_rows(self.folder / TRAINING, self.inputs, labels=self.labels),
            open_rows(self.folder / VALIDATION, self.inputs, labels=self.labels),
        )


def training_rows(context: Context, folder: Path) -> tuple[Rows, Rows]:
    """Returns training and validation rows as memory maps below ``folder``.

    Training is judged on the calibration split: the evaluation split stays unseen.

    Raises:
        ConfigError: the data section names no label, and the task needs one.
    """
    require_label(context.experiment, "training")
    data = dataset(context)
    return (
        data.materialize("training", folder / TRAINING, context.progress),
        data.materialize("calibration", folder / VALIDATION, context.progress),
    )


def drop_scratch(folder: Path) -> None:
    """Removes what only an interrupted training needs."""
    for name in (TRAINING, VALIDATION):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def criterion_of(context: Context, section: Training | TrainQat) -> Criterion:
    """Returns loss and metric."""
    experiment = context.experiment
    return criterion(section.loss, experiment.task, experiment.model.output)


def logs_of(context: Context, section: Training | TrainQat, folder: Path) -> list[Log]:
    """Returns the logs of a stage, which lie outside of its folder: they hold times.

    Raises:
        ConfigError: the package of a log is not installed.
    """
    name = f"{context.experiment.name}-{folder.name}"
    logs = open_logs(section.log, context.run.directory / "logs", name)
    for log in logs:
        log.start(section.settings())
    return logs


def place_of(section: Training | TrainQat) -> Place:
    """Returns where a stage is trained in this process."""
    return place(section.device, detect().cores)


def settings(section: Training | TrainQat) -> dict[str, Any]:
    """Returns what a section adds to the key of its stage: itself, and the user's functions."""
    return section.settings() | {"code": _code(section)}


def source_sha256(reference: str, pythonpath: Path | None) -> str | None:
    """Returns the digest of the file of ``module:function``; what it imports is not followed."""
    name = reference.partition(":")[0]
    if pythonpath is not None:
        module = pythonpath.joinpath(*name.split("."))
        return digest_of(module.with_suffix(".py")) or digest_of(module / "__init__.py")
    if name in sys.modules:
        return digest_of(Path(str(sys.modules[name].__file__)))
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else digest_of(Path(spec.origin))


def digest_of(path: Path) -> str | None:
    """Returns the digest of a file, None when there is none."""
    return sha256_of(path) if path.is_file() else None


def _code(section: Training | TrainQat) -> list[str | None]:
    functions = [section.augment.function]
    if isinstance(section.loss, FunctionLoss):
        functions.append(section.loss)  # type: ignore[arg-type]
    return [source_sha256(f.function, f.pythonpath) for f in functions if f is not None]
