"""``fastest``: the form that a layer gets depends on what it has to do, and on the target."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from support.graphs import attention, dense, model_of, recurrent, residual_convolutions

from qtool.config.quantization import FastestQuantization, LayerRule
from qtool.graph.costs import Workload, measured_values
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.runtime.shapes import shapes_of


def layer_of_width(width: int) -> ir.Model:
    generator = np.random.default_rng(0)
    constants = {"w.weight": dense(generator, width, width), "w.bias": dense(generator, width)}
    node = helper.make_node("Gemm", ["x", "w.weight", "w.bias"], ["y"], name="w")
    ends = [[(name, TensorProto.FLOAT, ["batch", width])] for name in ("x", "y")]
    return model_of([node], *ends, constants)


def fastest(model, rows, *batch_sizes, target="x86_amx", layers=()):
    prepared = prepare(model)
    shapes = shapes_of(prepared, measured_values(prepared), rows)
    axis = 1 if "LSTM" in {node.op_type for node in prepared.graph} else 0
    workload = Workload(batch_sizes, shapes, rows["x"].shape[axis])
    section = FastestQuantization(method="fastest", layers=list(layers))
    plan = make_plan(prepared, "", section, TARGETS[target], workload)
    return {node.name: node for node in plan.nodes}


def rows_of(*shape):
    return {"x": np.zeros(shape, np.float32)}


@pytest.mark.parametrize("target", TARGETS)
def test_small_layers_at_batch_1_are_only_stored(target):
    node = fastest(layer_of_width(64), rows_of(4, 64), 1, target=target)["w"]
    assert node.treatment == "storage"
    assert "predicted 0." in node.reason


@pytest.mark.parametrize("target", TARGETS)
def test_wide_layers_compute_in_integers(target):
    node = fastest(layer_of_width(1024), rows_of(4, 1024), 32, target=target)["w"]
    assert node.treatment == "static"
    assert "x FP32 at batch 32" in node.reason


def test_the_work_counts_and_not_the_rows_that_showed_the_shapes():
    few, many = (fastest(layer_of_width(256), rows_of(n, 256), 32)["w"] for n in (2, 64))
    assert few == many


def test_no_batch_size_counts_for_more_because_it_is_larger():
    alone = fastest(layer_of_width(96), rows_of(4, 96), 1)["w"]
    assert alone.treatment == "storage"
    together = fastest(layer_of_width(96), rows_of(4, 96), 1, 256)["w"]
    assert together.treatment == "static"


def test_a_rule_beats_the_prediction():
    rule = LayerRule(match="w", method="static")
    node = fastest(layer_of_width(64), rows_of(4, 64), 1, layers=[rule])["w"]
    assert (node.treatment, node.reason) == ("static", "rule 'w'")


@pytest.mark.parametrize(("hidden", "treatment"), [(32, "storage"), (128, "dynamic")])
def test_an_lstm_is_dynamic_where_that_is_faster(hidden, treatment):
    node = fastest(recurrent(hidden=hidden), rows_of(5, 4, 6), 1)["cell"]
    assert node.treatment == treatment


def test_a_gru_is_stored():
    node = fastest(recurrent("GRU", hidden=256), rows_of(5, 4, 6), 1)["cell"]
    assert node.treatment == "storage"
    assert "no integer GRU" in node.reason


def test_small_attention_products_stay_float():
    nodes = fastest(attention(), rows_of(4, 6, 32), 1)
    assert nodes["scores"].treatment == "float"
    assert "predicted" in nodes["scores"].reason


def test_convolutions_are_decided_together():
    nodes = fastest(residual_convolutions(channels=64), rows_of(4, 4, 20), 32)
    assert {nodes[name].treatment for name in ("stem", "body.0", "body.1")} == {"static"}
    nodes = fastest(residual_convolutions(channels=4), rows_of(4, 4, 20), 1)
    assert {nodes[name].treatment for name in ("stem", "body.0", "body.1")} == {"storage"}


def test_single_tokens_are_weight_only_on_amx():
    generator = np.random.default_rng(0)
    constants = {"w": dense(generator, 1024, 1024)}
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="w")
    ends = [[(name, TensorProto.FLOAT, ["batch", 1, 1024])] for name in ("x", "y")]
    model = model_of([node], *ends, constants)
    assert fastest(model, rows_of(4, 1, 1024), 1)["w"].treatment == "weight_only"
    assert fastest(model, rows_of(4, 1, 1024), 32)["w"].treatment == "static"
    assert fastest(model, rows_of(4, 1, 1024), 1, target="x86_vnni")["w"].treatment == "static"
