from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from qtool.config.training import Logger
from qtool.errors import ConfigError, OutputError
from qtool.history import EpochRecord
from qtool.training.logs import MODULES, WAITING_METRICS, Log, open_logs

READER = "tensorboard.backend.event_processing.event_accumulator"
PARAMETERS = {"epochs": 1, "distill": {"weight": 0.5, "teacher": None}}
START = EpochRecord(0, None, 0.5, None)
FIRST = EpochRecord(1, 0.5, 0.25, 0.75, 0.125)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKING_URI", "EXPERIMENT_NAME", "DISABLE_TELEMETRY"):
        monkeypatch.setenv(f"MLFLOW_{name}", "")  # set before it is deleted, so that it is restored
        monkeypatch.delenv(f"MLFLOW_{name}")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of logs: MLflow takes seconds to make its tables, once."""
    return tmp_path_factory.mktemp("logs")


def train(log: Log) -> None:
    log.start(PARAMETERS)
    log.epoch(START)
    log.step(1, {"loss": 0.75})
    log.step(2, {"loss": 0.5})
    log.epoch(FIRST)


@pytest.mark.parametrize(("name", "module"), [(n, m) for n in MODULES for m in MODULES[n]])
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: Logger, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as find_spec sees what is not installed
    with pytest.raises(ConfigError) as caught:
        open_logs([name], tmp_path, "fraud")
    assert str(caught.value) == (
        f"log: {name}, which is not installed; expected an installed package. "
        f"pip install 'qtool[{name}]', or remove it."
    )
    assert list(tmp_path.iterdir()) == []


def test_every_log_of_the_config_is_known(tmp_path: Path) -> None:
    assert set(MODULES) == set(get_args(Logger))
    assert open_logs([], tmp_path, "fraud") == []


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    reader = pytest.importorskip(READER, reason="needs the extra tensorboard")
    (log,) = open_logs(["tensorboard", "tensorboard"], tmp_path, "fraud-1a")
    train(log)
    log.end([Path("history.json")])
    read = reader.EventAccumulator(str(tmp_path / "tensorboard" / "fraud-1a")).Reload()
    found = {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }
    assert found == {
        "step/loss": [(1, 0.75), (2, 0.5)],
        "epoch/train_loss": [(1, 0.5)],
        "epoch/validation_loss": [(0, 0.5), (1, 0.25)],
        "epoch/validation_metric": [(1, 0.75)],
        "epoch/learning_rate": [(1, 0.125)],
    }
    (text,) = read.Tensors("parameters/text_summary")
    (written,) = text.tensor_proto.string_val
    assert written == b"    epochs: 1\n    distill.weight: 0.5\n    distill.teacher: None"


def test_a_killed_training_goes_on_in_its_tensorboard_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    for _ in range(2):
        (log,) = open_logs(["tensorboard"], tmp_path, "fraud-1a")
        train(log)  # and no end
    assert [folder.name for folder in (tmp_path / "tensorboard").iterdir()] == ["fraud-1a"]


def test_tensorboard_in_a_place_that_is_taken(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(OutputError, match="the log is refused"):
        open_logs(["tensorboard"], tmp_path, "fraud-1a")


class TestMLflow:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        for module in MODULES["mlflow"]:
            pytest.importorskip(module, reason="needs the extra mlflow")

    @staticmethod
    def runs(store: Path, name: str, experiment_name: str = "qtool") -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{store}/mlflow/mlflow.db")
        experiment = client.get_experiment_by_name(experiment_name)
        return list(client.search_runs([experiment.experiment_id], f"run_name = '{name}'"))

    def test_mlflow_reads_what_was_written(self, store: Path) -> None:
        from mlflow import MlflowClient

        (log,) = open_logs(["mlflow"], store, "fraud-1a")
        train(log)
        file = store / "history.json"
        file.write_text("{}")
        log.end([file])
        (run,) = self.runs(store, "fraud-1a")
        client = MlflowClient(f"sqlite:///{store}/mlflow/mlflow.db")
        steps = client.get_metric_history(run.info.run_id, "step/loss")
        assert [(value.step, value.value) for value in steps] == [(1, 0.75), (2, 0.5)]
        losses = client.get_metric_history(run.info.run_id, "epoch/validation_loss")
        assert [(value.step, value.value) for value in losses] == [(0, 0.5), (1, 0.25)]
        assert set(run.data.metrics) == {
            "step/loss",
            *(f"epoch/{n}" for n in ("train_loss", "validation_loss", "validation_metric")),
            "epoch/learning_rate",
        }
        assert run.data.params == {
            "epochs": "1",
            "distill.weight": "0.5",
            "distill.teacher": "None",
        }
        assert [found.path for found in client.list_artifacts(run.info.run_id)] == ["history.json"]
        assert (store / "mlflow" / "artifacts" / run.info.run_id).is_dir()
        assert run.info.status == "FINISHED"

    def test_a_killed_training_goes_on_in_its_run_and_an_ended_one_does_not(
        self, store: Path
    ) -> None:
        for end in (False, True, True):
            (log,) = open_logs(["mlflow"], store, "fraud-2b")
            train(log)
            if end:
                log.end([])
        runs = self.runs(store, "fraud-2b")
        assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]

    def test_a_database_that_was_never_finished_is_made_again(self, tmp_path: Path) -> None:
        """MLflow cannot open one that lacks half of its tables."""
        (tmp_path / "mlflow").mkdir()
        (tmp_path / "mlflow" / ".mlflow.db.tmp").write_bytes(b"half a database")
        (log,) = open_logs(["mlflow"], tmp_path, "fraud-6f")
        train(log)
        assert len(self.runs(tmp_path, "fraud-6f")) == 1
        assert not (tmp_path / "mlflow" / ".mlflow.db.tmp").exists()

    def test_many_steps_are_sent_before_they_fill_memory(self, store: Path) -> None:
        (log,) = open_logs(["mlflow"], store, "fraud-3c")
        for step in range(WAITING_METRICS):
            log.step(step, {"loss": 1.0})
        (run,) = self.runs(store, "fraud-3c")
        assert run.data.metrics == {"step/loss": 1.0}

    def test_the_server_and_experiment_of_the_environment_are_used(
        self, monkeypatch: pytest.MonkeyPatch, store: Path, tmp_path: Path
    ) -> None:
        open_logs(["mlflow"], store, "fraud-4d")  # makes the tables
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow/mlflow.db")
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "scoring")
        monkeypatch.chdir(tmp_path)  # MLflow's own place for artifacts is below it
        (log,) = open_logs(["mlflow"], tmp_path / "logs", "fraud-4e")
        train(log)
        (run,) = self.runs(store, "fraud-4e", "scoring")
        assert run.data.metrics["epoch/train_loss"] == 0.5
        assert list((tmp_path / "logs" / "mlflow").iterdir()) == []

    def test_nothing_is_told_to_the_makers_of_mlflow(self, store: Path) -> None:
        open_logs(["mlflow"], store, "fraud-5e")
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"

    def test_a_server_that_does_not_answer(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(OutputError, match=r"127\.0\.0\.1:9: the log is refused"):
            open_logs(["mlflow"], tmp_path, "fraud-1a")
