from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qtool.config.quantization import FastestQuantization
from qtool.graph.costs import Workload, measured_values
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.runtime.sessions import Session
from qtool.runtime.shapes import shapes_of
from qtool.torchgraph.export import export_onnx

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LAYERS = {"Gemm", "MatMul", "Conv", "LSTM"}
NAMES = (
    "credit-mlp",
    "bank-residual-mlp",
    "book-tcn",
    "book-cnn",
    "intent-encoder",
    "volatility-lstm",
)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def models():
    import qat_models

    return qat_models


def example(name, rows=4):
    generator = np.random.default_rng(0)
    import qat_tables
    import qat_windows

    shapes = {
        "credit-mlp": (qat_tables.CREDIT_COLUMNS,),
        "bank-residual-mlp": (qat_tables.BANK_COLUMNS,),
        "book-tcn": (qat_windows.BOOK_COLUMNS, qat_windows.SNAPSHOTS),
        "book-cnn": (1, qat_windows.SNAPSHOTS, qat_windows.BOOK_COLUMNS),
        "volatility-lstm": (qat_windows.DAYS, qat_windows.STOCK_COLUMNS),
    }
    if name in shapes:
        return {"x": generator.standard_normal((rows, *shapes[name])).astype(np.float32)}
    tokens = generator.integers(1, qat_tables.VOCABULARY, (rows, qat_tables.WORDS))
    mask = np.ones_like(tokens)
    mask[0, 5:], tokens[0, 5:] = 0, qat_tables.PADDING
    return {"tokens": tokens, "mask": mask}


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_an_exported_model_is_stored_in_8_bits(models, name):
    module, rows = models.MODELS[name].build(0).eval(), example(name)
    prepared = prepare(export_onnx(module, rows))
    session = Session(prepared, name)
    found = session.run(rows)[session.output_names[0]]
    tensors = {key: torch.from_numpy(array) for key, array in rows.items()}
    np.testing.assert_allclose(found, module(**tensors).detach(), rtol=1e-4, atol=1e-5)
    one = session.run({key: array[:1] for key, array in rows.items()})[session.output_names[0]]
    np.testing.assert_allclose(one, found[:1], rtol=1e-4, atol=1e-5)
    workload = Workload((32,), shapes_of(prepared, measured_values(prepared), rows), 4)
    section = FastestQuantization(method="fastest")
    plan = make_plan(prepared, "", section, TARGETS["x86_vnni"], workload)
    layers = [node for node in plan.nodes if node.op_type in LAYERS]
    assert any(node.treatment in ("static", "dynamic") for node in layers)
    # Attention of so few words is too small for an integer kernel.
    assert all("product" in node.reason for node in layers if node.treatment == "float")


def test_the_models_are_those_of_the_test_above(models):
    assert tuple(models.MODELS) == NAMES
    assert {model.task for model in models.MODELS.values()} == {
        "binary_classification",
        "multiclass_classification",
        "regression",
    }


def test_metrics_by_hand(models):
    labels = np.array([0, 1, 1])
    logits = np.array([[0.0], [1.0], [-1.0]], np.float32)
    assert models.auc(labels, logits) == 0.5
    assert models.r2(labels, logits) == pytest.approx(1 - 4 / (2 / 3))
    classes = np.array([[1.0, 0], [0, 1], [1, 0]], np.float32)
    assert models.accuracy(labels, classes) == pytest.approx(2 / 3)
    # (TP TN - FP FN) / sqrt((TP+FP)(TP+FN)(TN+FP)(TN+FN)) with TP 1, TN 1, FP 0, FN 1
    assert models.mcc(labels, classes) == pytest.approx(1 / np.sqrt(1 * 2 * 1 * 2))


def test_a_seed_fixes_the_weights(models):
    model = models.MODELS["credit-mlp"]
    first, same, other = (model.build(seed).body[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
