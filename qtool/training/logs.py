"""Where training also reports when the config asks for it: TensorBoard and MLflow, both extras.

A log holds what ``history.json`` holds, and values of single steps, in a form that other tools
show. It is no artifact: it holds times, and no stage depends on it. The same run name means the
same training: one that was killed goes on in its own log, where the steps since its checkpoint
appear twice with equal values.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from qtool.config.training import Logger
from qtool.errors import ConfigError, OutputError
from qtool.history import EpochRecord

MODULES: dict[Logger, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),  # the last two: its store in a local file
}
"""What the extra of each log installs."""
DATABASE = "mlflow.db"
WAITING_METRICS = 500
"""Values that are sent to MLflow at once: one by one would cost 5 ms each. It takes 1000."""


class Log(Protocol):
    """One log of one training."""

    def start(self, parameters: Mapping[str, Any]) -> None:
        """Writes what was chosen for this training; sections within become dotted names."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values of one optimizer step, counted from the start of training."""

    def epoch(self, record: EpochRecord) -> None:
        """Writes the values of one epoch; what came before is then where it belongs."""

    def end(self, files: Sequence[Path]) -> None:
        """Ends the log with the files that came of the training; a killed one has no end."""


def open_logs(names: Iterable[Logger], directory: Path, run_name: str) -> list[Log]:
    """Returns the logs, ready to be written; made before training, since they may be refused.

    Args:
        names: as in the config.
        directory: local logs are its folders ``tensorboard`` and ``mlflow``.
        run_name: of letters, digits and ``._-``; the same when a killed training goes on.

    Raises:
        ConfigError: the package of a log is not installed.
        OutputError: a log cannot be opened.
    """
    chosen = list(dict.fromkeys(names))
    for name in chosen:
        if any(find_spec(module) is None for module in MODULES[name]):
            raise ConfigError(
                "log",
                f"{name}, which is not installed",
                "an installed package",
                f"pip install 'qtool[{name}]', or remove it.",
            )
    logs: dict[Logger, type[_TensorBoard] | type[_MLflow]] = {
        "tensorboard": _TensorBoard,
        "mlflow": _MLflow,
    }
    return [logs[name](directory.resolve() / name, run_name) for name in chosen]


class _TensorBoard:
    """Event files in a folder of the run's name."""

    def __init__(self, directory: Path, run_name: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.where = str(directory / run_name)
        with _refusals(self.where, OSError):
            self.writer: Any = SummaryWriter(self.where)

    def start(self, parameters: Mapping[str, Any]) -> None:
        lines = (f"    {name}: {value}" for name, value in _flat(parameters))
        self.writer.add_text("parameters", "\n".join(lines))  # indented: as it is, in Markdown

    def step(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"step/{name}", value, step)

    def epoch(self, record: EpochRecord) -> None:
        for name, value in _values(record):
            self.writer.add_scalar(f"epoch/{name}", value, record.epoch)
        with _refusals(self.where, OSError):
            self.writer.flush()

    def end(self, files: Sequence[Path]) -> None:
        self.writer.add_text("files", "\n".join(f"    {file}" for file in files))
        with _refusals(self.where, OSError):
            self.writer.close()


class _MLflow:
    """A run on the server of MLFLOW_TRACKING_URI, without one in a SQLite file.

    The experiment is MLFLOW_EXPERIMENT_NAME, or ``qtool``. A run that was killed is still running
    for MLflow, and is found by its name.
    """

    def __init__(self, directory: Path, run_name: str) -> None:
        # MLflow tells its makers what is called, unless this is set before it is loaded (3.17).
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # its news would tear the live table
        self.metric = mlflow.entities.Metric
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self.where = server or _address(directory / DATABASE)
        self.refused = (mlflow.exceptions.MlflowException, OSError)
        self.waiting: list[Any] = []
        with _refusals(self.where, *self.refused):
            directory.mkdir(parents=True, exist_ok=True)
            if server is None:
                _make_database(directory, mlflow.MlflowClient)
            self.client: Any = mlflow.MlflowClient(self.where)
            # A file has no server that would know a place for artifacts.
            experiment = self._experiment(None if server else (directory / "artifacts").as_uri())
            self.run_id = self._run(experiment, run_name)

    def _experiment(self, artifacts: str | None) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "qtool")
        found = self.client.get_experiment_by_name(name)
        if found is None:
            return str(self.client.create_experiment(name, artifact_location=artifacts))
        return str(found.experiment_id)

    def _run(self, experiment: str, name: str) -> str:
        unfinished = f"attributes.run_name = '{name}' AND attributes.status = 'RUNNING'"
        found = self.client.search_runs([experiment], unfinished, max_results=1)
        run = found[0] if found else self.client.create_run(experiment, run_name=name)
        return str(run.info.run_id)

    def start(self, parameters: Mapping[str, Any]) -> None:
        with _refusals(self.where, *self.refused):
            for name, value in _flat(parameters):
                self.client.log_param(self.run_id, name, value)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        self._add((f"step/{name}", value, step) for name, value in values.items())
        if len(self.waiting) >= WAITING_METRICS:
            self._send()

    def epoch(self, record: EpochRecord) -> None:
        self._add((f"epoch/{name}", value, record.epoch) for name, value in _values(record))
        self._send()

    def end(self, files: Sequence[Path]) -> None:
        self._send()
        with _refusals(self.where, *self.refused):
            for file in files:
                self.client.log_artifact(self.run_id, str(file))
            self.client.set_terminated(self.run_id)

    def _add(self, values: Iterable[tuple[str, float, int]]) -> None:
        now_ms = round(1000 * time.time())
        self.waiting += [self.metric(name, value, now_ms, step) for name, value, step in values]

    def _send(self) -> None:
        with _refusals(self.where, *self.refused):
            self.client.log_batch(self.run_id, metrics=self.waiting)
        self.waiting = []


def _address(database: Path) -> str:
    return f"sqlite:///{database.as_posix()}"


def _make_database(directory: Path, client: Callable[[str], Any]) -> None:
    """MLflow (3.17) cannot open a database whose tables it was killed in the middle of making."""
    if (directory / DATABASE).exists():
        return
    unfinished = directory / f".{DATABASE}.tmp"
    unfinished.unlink(missing_ok=True)
    client(_address(unfinished)).search_experiments()
    unfinished.replace(directory / DATABASE)


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _values(record: EpochRecord) -> Iterator[tuple[str, float]]:
    values = asdict(record)
    del values["epoch"]
    return ((name, value) for name, value in values.items() if value is not None)


@contextmanager
def _refusals(where: str, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise OutputError(
            where,
            f"the log is refused ({error})",
            "a log that can be written",
            "Mend it and run again: training goes on from its checkpoint.",
        ) from error
