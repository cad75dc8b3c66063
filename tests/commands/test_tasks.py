"""Labels of every task: what works with them, and what says that it does not."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import qtool, succeeded
from support.graphs import mlp

from qtool.graph.model_file import model_bytes

CONFIG = """\
name: tasks
model: {onnx: model.onnx}
data:
  source: rows.parquet
  inputs: {x: {columns: [features]}}
quantization: {method: static, samples: 100}
"""
ROWS = 600
CLASSES = ("card", "fee", "loan")
TASKS = {
    "classes": ("task=multiclass_classification", "data.label=product"),
    "targets": ("task=regression", "data.label=[next_day, next_week]"),
    "tokens": ("task=language_model",),
    "customers": ("task=representation", "data.label=product"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    features = pa.array(random.normal(size=ROWS * 8).astype(np.float32))
    columns = {
        "features": pa.FixedSizeListArray.from_arrays(features, 8),
        "product": random.choice(CLASSES, ROWS, p=[0.9, 0.08, 0.02]),
        "flag": random.integers(0, 2, ROWS),
        "next_day": random.normal(size=ROWS),
        "next_week": random.normal(size=ROWS),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "model.onnx").write_bytes(model_bytes(mlp()))
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings(*overrides: str) -> list[str]:
    return [word for text in overrides for word in ("--set", text)]


@pytest.mark.parametrize("name", TASKS)
def test_quantize_works_for_every_task(folder, name):
    succeeded("quantize", "config.yaml", "--quiet", *settings(*TASKS[name]))
    done = folder / "runs" / "tasks"
    assert (done / "quantize" / "model.int8.onnx").is_file()
    encoder = json.loads((done / "data" / "encoder.json").read_text())
    counts = json.loads((done / "data" / "split.json").read_text())["counts"]
    if name == "classes":
        assert encoder["classes"] == list(CLASSES)
        assert [sum(split) for split in counts["classes"].values()] == [*counts["rows"].values()]
    else:
        assert "classes" not in encoder
        assert "classes" not in counts


@pytest.mark.parametrize("command", ["evaluate", "export", "run"])
@pytest.mark.parametrize("name", TASKS)
def test_what_judges_decisions_refuses_other_tasks(folder, command, name):
    done = qtool(command, "config.yaml", "--quiet", *settings(*TASKS[name]))
    assert (done.code, done.out) == (3, "")
    assert "expected binary_classification, whose decisions 'qtool evaluate'" in done.err
    assert "'qtool calibrate', 'qtool quantize' and 'qtool train-qat' work" in done.err
    assert not (folder / "runs" / "tasks" / "data").exists()  # said before any work


def test_another_task_is_another_key(folder):
    record = folder / "runs" / "tasks" / "data" / "stage.json"
    keys = []
    for task in ("binary_classification", "multiclass_classification", "regression"):
        overrides = settings("data.label=flag", f"task={task}")
        succeeded("quantize", "config.yaml", "--quiet", *overrides)
        keys.append(json.loads(record.read_text())["key"])
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == 3
    assert "task" not in keys[0]  # as in runs from before there was a choice
