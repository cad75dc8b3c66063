"""What a model returns against what labels and config make of it, before any row is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from support.cli import qtool, succeeded
from support.graphs import dense, mlp, model_of

from qtool.graph.model_file import model_bytes

CONFIG = """\
name: outputs
model: {onnx: model.onnx}
data:
  source: rows.parquet
  inputs: {x: {columns: [features]}}
quantization: {method: static, samples: 100}
evaluation: {latency: {enabled: false}}
"""
ROWS = 300
TRADING = "evaluation.trading={returns: day, positions: [-1, 0, 1]}"
CLASSES = ("task=multiclass_classification", "data.label=product")
NUMBERS = ("task=regression", "data.label=[day, week]")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    features = pa.array(random.normal(size=ROWS * 8).astype(np.float32))
    columns = {
        "features": pa.FixedSizeListArray.from_arrays(features, 8),
        "product": random.choice(["card", "fee", "loan"], ROWS),
        "code": random.integers(0, 5, ROWS),
        "flag": random.integers(0, 2, ROWS),
        "day": random.normal(size=ROWS),
        "week": random.normal(size=ROWS),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "mine_of_outputs.py").write_text("def metric(labels, found):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unknown_width(outputs: int):
    """A graph whose second dimension only a run tells: it is the value of a computed shape."""
    random = np.random.default_rng(0)
    constants = {"w": dense(random, 8, outputs), "last": np.array([1]), "any": np.array([-1])}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Shape", ["z"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["width"]),
        helper.make_node("Concat", ["any", "width"], ["to"], axis=0),
        helper.make_node("Reshape", ["z", "to"], ["y"]),
    ]
    shapes = [("x", TensorProto.FLOAT, ["batch", 8])], [("y", TensorProto.FLOAT, ["batch", "n"])]
    return model_of(nodes, *shapes, constants)


def evaluated(command, graph, *overrides):
    Path("model.onnx").write_bytes(model_bytes(graph))
    words = [word for text in overrides for word in ("--set", text)]
    return command("evaluate", "config.yaml", "--quiet", *words)


@pytest.mark.parametrize("make", [lambda outputs: mlp(outputs=outputs), unknown_width])
@pytest.mark.parametrize(
    ("outputs", "overrides", "code", "found"),
    [
        (4, (*CLASSES, TRADING), 3, "positions: 3 positions, and 4 classes of the model; expected"),
        (2, CLASSES, 4, "the FP32 model: 2 classes; expected 3, as data.label has. Check data"),
        (4, (*CLASSES[:1], "data.label=code"), 4, "4 classes; expected 5, as data.label has"),
        (1, CLASSES, 4, "output of shape (1, 1); expected (rows, classes)"),
        (3, ("data.label=flag",), 4, "output of shape (1, 3); expected (rows,), (rows, 1) or"),
        (3, NUMBERS, 4, "3 values per row; expected 2: one value for each of 2 numbers of data"),
        (4, (*NUMBERS, "evaluation.forecast.quantiles=[0.1, 0.5, 0.9]"), 4,
         "4 values per row; expected 6: each of 3 quantiles for each of 2 numbers"),
        (4, (*NUMBERS, "train_qat.loss={name: quantile, quantiles: [0.1, 0.5, 0.9]}"), 4,
         "expected 6: each of 3 quantiles"),
        (5, (*NUMBERS, "train_qat.loss={name: gaussian_nll}"), 4,
         "5 values per row; expected 4: one value and a variance (loss gaussian_nll) for each"),
        (2, (*NUMBERS, "evaluation.risk.level=0.99"), 4, "expected 4: VaR and ES"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_found_before_any_row_is_scored(
    folder, make, outputs, overrides, code, found
):
    done = evaluated(qtool, make(outputs), *overrides)
    assert (done.code, done.out) == (code, ""), done.err
    assert found in done.err
    made = {stage.name for stage in (folder / "runs" / "outputs").iterdir()}
    assert made <= {".lock", ".partial", "data", "fp32", "prepared"}


@pytest.mark.parametrize(
    ("outputs", "overrides"),
    [
        (3, (*CLASSES, TRADING)),
        (4, CLASSES),
        (5, (*NUMBERS, "evaluation={metrics: ['mine_of_outputs:metric'], pythonpath: .}")),
    ],
)
def test_what_fits_or_is_read_by_an_own_metric_only_is_scored(folder, outputs, overrides):
    evaluated(succeeded, mlp(outputs=outputs), *overrides)
