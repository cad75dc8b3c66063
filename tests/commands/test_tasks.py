"""Labels of every task: what works with them, and what says that it does not."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from support.cli import qtool, succeeded
from support.graphs import dense, mlp, model_of

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


def language():
    """An embedding and a dense layer: 12 tokens, each step alone."""
    generator = np.random.default_rng(0)
    constants = {"table": dense(generator, 12, 16), "head": dense(generator, 16, 12)}
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "head"], ["y"]),
    ]
    inputs = [("x", TensorProto.INT64, ["batch", "steps"])]
    outputs = [("y", TensorProto.FLOAT, ["batch", "steps", 12])]
    return model_of(nodes, inputs, outputs, constants)


EVALUATED = {
    "classes": ("accuracy macro_f1 mcc log_loss", ("class_agreement",)),
    "targets": ("mae rmse r2", ()),
    "customers": ("recall_at_1 recall_at_10 ndcg_at_10 mrr", ("top_10_overlap",)),
}


@pytest.mark.parametrize("name", EVALUATED)
def test_every_task_is_evaluated_and_bundled(folder, name):
    outputs = {"classes": 3, "targets": 2, "customers": 4}[name]
    (folder / "model.onnx").write_bytes(model_bytes(mlp(outputs=outputs)))
    metrics, agreements = EVALUATED[name]
    gate = f"{metrics.split()[0]}_drop"
    done = succeeded(
        "run", "config.yaml", "--quiet", "--json",
        *settings(*TASKS[name], f"evaluation.gates.{gate}=10", "evaluation.latency.enabled=false"),
    )  # fmt: skip
    document = json.loads(done.out)
    assert list(document["metrics"]) == metrics.split()
    assert [found["name"] for found in document["agreements"]] == list(agreements)
    assert document["decisions"] is None
    assert document["gates"][0]["verdict"] == "pass"
    for change in document["metrics"].values():
        assert change["low"] <= change["change"] <= change["high"]
    bundle = folder / "runs" / "tasks" / "bundle"
    assert "evaluation.json" in {file.name for file in bundle.iterdir()}


def test_a_language_model_is_evaluated(folder):
    tokens = np.random.default_rng(0).integers(1, 12, (ROWS, 6))
    listed = pa.FixedSizeListArray.from_arrays(pa.array(tokens.reshape(-1)), 6)
    pq.write_table(pa.table({"tokens": listed}), folder / "rows.parquet")
    (folder / "model.onnx").write_bytes(model_bytes(language()))
    inputs = "data.inputs={x: {kind: sequence, columns: [tokens], length: 6}}"
    done = succeeded(
        "evaluate", "config.yaml", "--quiet", "--json",
        *settings(
            "task=language_model", inputs, "evaluation.gates={perplexity_drop: 1.0}",
            "evaluation.latency.enabled=false", "quantization.method=dynamic",
            "quantization.samples=null",
        ),
    )  # fmt: skip
    document = json.loads(done.out)
    # Random tokens: about as many choices as there are tokens.
    assert 10 < document["metrics"]["perplexity"]["fp32"] < 30
    (agreement,) = document["agreements"]
    assert agreement["name"] == "token_agreement"
    assert agreement["share"] > 0.8


def test_a_model_of_means_and_variances_is_judged_by_its_means(folder):
    (folder / "model.onnx").write_bytes(model_bytes(mlp(outputs=4)))
    quantized = settings(*TASKS["targets"], "evaluation.latency.enabled=false")
    loss = "train_qat={epochs: 1, batch_size: 200, loss: {name: gaussian_nll}}"
    stress = "evaluation.robustness={noise: [0.1], rows: 50}"
    done = succeeded(
        "evaluate", "config.yaml", "--quiet", "--json", *quantized, *settings(loss, stress)
    )
    document = json.loads(done.out)
    assert list(document["metrics"]) == ["mae", "rmse", "r2"]
    assert document["robustness"][0]["metric"]["name"] == "mae"


def test_a_gate_of_another_task_is_refused_before_any_work(folder):
    done = qtool(
        "evaluate", "config.yaml", "--quiet",
        *settings(*TASKS["targets"], "evaluation.gates.auc_drop=0.1"),
    )  # fmt: skip
    assert (done.code, done.out) == (3, "")
    assert "evaluation.gates.auc_drop: no such gate; expected one of" in done.err
    assert "mae_drop" in done.err
    assert not (folder / "runs" / "tasks" / "data").exists()


def test_another_task_is_another_key(folder):
    record = folder / "runs" / "tasks" / "data" / "stage.json"
    keys = []
    for task in ("binary_classification", "multiclass_classification", "regression"):
        overrides = settings("data.label=flag", f"task={task}")
        succeeded("quantize", "config.yaml", "--quiet", *overrides)
        keys.append(json.loads(record.read_text())["key"])
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == 3
    assert "task" not in keys[0]  # as in runs from before there was a choice
