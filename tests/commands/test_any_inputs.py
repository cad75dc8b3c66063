"""Models of sequences, images and several outputs, with and without labels, through the chain."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from support.cli import qtool, succeeded
from support.graphs import dense, model_of
from support.quantizing import run

from qtool.graph.model_file import model_bytes, outputs_of, read_model
from qtool.runtime.sessions import Session

CONFIG = """\
name: cards
model: {onnx: model.onnx}
data:
  source: rows.parquet
  inputs:
    tokens: {kind: sequence, columns: [mcc], length: 6, dtype: int32, mask: mask, mask_dtype: bool}
    history: {kind: sequence, columns: [amount, gap], length: 6, scale: standard, log: [amount]}
    book: {kind: tensor, columns: [book], scale: standard}
quantization: {method: static, samples: 300}
evaluation: {latency: {enabled: false}}
"""


def model():
    """Embedded tokens beside numbers per step, summed over real steps; a book of prices."""
    random = np.random.default_rng(0)
    constants = {
        "table": dense(random, 50, 8),
        "w0": dense(random, 10, 32),
        "b0": dense(random, 32),
        "w1": dense(random, 8, 32),
        "b1": dense(random, 32),
        "w2": dense(random, 32, 1),
        "b2": dense(random, 1),
        "last": np.array([2]),
        "step": np.array([1]),
        "flat": np.array([0, 8]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["rows"]),
        helper.make_node("Concat", ["rows", "history"], ["steps"], axis=2),
        helper.make_node("MatMul", ["steps", "w0"], ["m0"]),
        helper.make_node("Add", ["m0", "b0"], ["a0"]),
        helper.make_node("Relu", ["a0"], ["r0"]),
        helper.make_node("Cast", ["mask"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["floats", "last"], ["wide"]),
        helper.make_node("Mul", ["r0", "wide"], ["real"]),
        helper.make_node("ReduceSum", ["real", "step"], ["sum"], keepdims=0),
        helper.make_node("Reshape", ["book", "flat"], ["prices"]),
        helper.make_node("Gemm", ["prices", "w1", "b1"], ["g1"]),
        helper.make_node("Relu", ["g1"], ["r1"]),
        helper.make_node("Add", ["sum", "r1"], ["both"]),
        helper.make_node("Gemm", ["both", "w2", "b2"], ["score"]),
        helper.make_node("ArgMax", ["real"], ["busiest"], axis=1, keepdims=0),
    ]
    inputs = [
        ("tokens", TensorProto.INT32, ["batch", 6]),
        ("mask", TensorProto.BOOL, ["batch", 6]),
        ("history", TensorProto.FLOAT, ["batch", 6, 2]),
        ("book", TensorProto.FLOAT, ["batch", 4, 2]),
    ]
    outputs = [
        ("score", TensorProto.FLOAT, ["batch", 1]),
        ("real", TensorProto.FLOAT, ["batch", 6, 32]),
        ("busiest", TensorProto.INT64, ["batch", 32]),
    ]
    return model_of(nodes, inputs, outputs, constants)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(model_bytes(model()))
    random = np.random.default_rng(1)
    lengths = random.integers(1, 9, 1_500)
    book = pa.array(random.normal(100, 5, 1_500 * 8))
    for size in (2, 4):
        book = pa.FixedSizeListArray.from_arrays(book, size)
    columns = {
        "mcc": [random.integers(0, 50, n).tolist() for n in lengths],
        "amount": [random.lognormal(3, 1, n).tolist() for n in lengths],
        "gap": [random.exponential(9, n).tolist() for n in lengths],
        "book": book,
        "bad": random.integers(0, 2, 1_500),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_quantize_needs_no_labels(folder):
    succeeded("quantize", "config.yaml", "--quiet")
    done = folder / "runs" / "cards"
    ranges = json.loads((done / "calibrate" / "ranges.json").read_text())
    assert (ranges["samples"] > 100, ranges["positives"]) == (True, None)
    int8 = read_model(done / "quantize" / "model.int8.onnx")
    assert [info.name for info in outputs_of(int8)] == ["score", "real", "busiest"]
    report = json.loads((done / "calibrate" / "representativeness.json").read_text())
    columns = {(fit["input"], fit["column"]) for fit in report["columns"]}
    assert {("tokens", "length"), ("history", "amount"), ("book", "book[1]")} < columns
    calibrated = succeeded("calibrate", "config.yaml", "--quiet")
    assert "columns with warnings" in calibrated.out


@pytest.mark.parametrize(
    ("command", "overrides", "says"),
    [
        ("evaluate", (), "data.label: no label, which evaluate needs"),
        ("run", (), "data.label: no label, which evaluate needs"),
        ("train-qat", ("train_qat={epochs: 1}",), "train_qat needs labels"),
        ("calibrate", ("quantization.minimum_class_share=0.2",), "needs labels: name the column"),
    ],
)
def test_what_needs_labels_says_so(folder, command, overrides, says):
    settings = [part for text in overrides for part in ("--set", text)]
    done = qtool(command, "config.yaml", "--quiet", *settings)
    assert (done.code, done.out) == (3, "")
    assert says in done.err


def test_with_labels_the_whole_chain_runs(folder):
    settings = ("data.label=bad", "export.encoder=graph")
    succeeded("run", "config.yaml", "--quiet", *(w for each in settings for w in ("--set", each)))
    bundle = folder / "runs" / "cards" / "bundle"
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "lists amount, gap, encoded by encoder.json" in card
    assert "1 for a step, 0 for padding" in card
    rows = {
        "tokens": np.ones((3, 6), np.int32),
        "mask": np.ones((3, 6), bool),
        "history": np.zeros((3, 6, 2), np.float32),
        "book": np.zeros((3, 4, 2), np.float32),
    }
    served = Session((bundle / "model.int8.onnx").read_bytes(), "bundle").run(rows)["score"]
    np.testing.assert_allclose(served, run(model(), rows), atol=0.3)
