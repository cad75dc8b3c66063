from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from support.graphs import fraud_like, fraud_rows, mlp
from support.quantizing import parameters_for, quantized, relative_error, run

from qtool.config.quantization import DynamicQuantization, LayerRule, StaticQuantization
from qtool.evaluation.coverage import coverage, not_fused
from qtool.evaluation.parity import unfused_parity
from qtool.graph.model_file import model_bytes
from qtool.graph.writing.writer import write
from qtool.runtime.kernels import kernels_of
from qtool.runtime.sessions import Session

STATIC = StaticQuantization(method="static")
PER_CHANNEL = StaticQuantization(method="static", per_channel=True)
DYNAMIC = DynamicQuantization(method="dynamic")
ACTIVATIONS = ["Relu", "LeakyRelu", "Tanh", "Sigmoid", "Elu", "Softplus", "Gelu"]


def kernels(model):
    return Counter(kernel.op_type for kernel in kernels_of(model_bytes(model), "test"))


@pytest.mark.parametrize("section", [STATIC, PER_CHANNEL, DYNAMIC])
def test_a_fraud_model_runs_on_integer_kernels_with_a_small_error(section):
    model, rows = fraud_like(), fraud_rows(2000)
    prepared, plan, int8 = quantized(model, rows, section)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(int8)))
    found = kernels(int8)
    assert found["QGemm" if section.method == "static" else "DynamicQuantizeMatMul"] == 3
    assert not {"Gemm", "FusedGemm", "MatMul", "DequantizeLinear"} & set(found)
    assert not not_fused(coverage(prepared, plan, kernels_of(model_bytes(int8), "test")))
    held_out = fraud_rows(1000, seed=9)
    assert relative_error(run(int8, held_out), run(model, held_out)) < 0.03


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("matmul", [False, True])
def test_no_activation_breaks_the_integer_kernel(activation, matmul):
    rows = {"x": np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)}
    model = mlp(activation, matmul=matmul)
    prepared, plan, int8 = quantized(model, rows)
    assert kernels(int8)["QGemm"] == 3
    assert not not_fused(coverage(prepared, plan, kernels_of(model_bytes(int8), "test")))
    assert relative_error(run(int8, rows), run(model, rows)) < 0.05


def test_integer_kernels_compute_what_the_graph_says():
    model, rows = fraud_like(), fraud_rows(3000)
    _, plan, int8 = quantized(model, rows)
    parity = unfused_parity(int8, plan, [fraud_rows(4000, seed=4)])
    assert parity.codes == 4000 * (14 + 32 + 32)
    assert parity.equal_share >= 0.999
    assert parity.largest_code_difference <= 1


def test_a_float_layer_keeps_its_neighbours_integer():
    rule = StaticQuantization(method="static", layers=[LayerRule(match="head", method="float")])
    rows = fraud_rows(500)
    prepared, plan, int8 = quantized(fraud_like(), rows, rule)
    assert kernels(int8)["QGemm"] == 2
    assert not not_fused(coverage(prepared, plan, kernels_of(model_bytes(int8), "test")))
    assert relative_error(run(int8, rows), run(fraud_like(), rows)) < 0.03


def test_tables_and_weights_take_one_byte_each():
    rows = fraud_rows(100)
    _, _, int8 = quantized(fraud_like(), rows)
    floats = sum(
        value.const_value.numpy().size
        for value in int8.graph.initializers.values()
        if value.const_value.numpy().dtype == np.float32
    )
    assert floats < 60  # scales and offsets only


def test_column_scales_beat_one_scale_on_tabular_rows():
    model, rows = fraud_like(), fraud_rows(3000)
    rows["numeric"][:, 0] *= 40  # an amount beside flags
    prepared, plan, parameters = parameters_for(model, rows, STATIC)
    columns = relative_error(run(write(prepared, plan, parameters, {}), rows), run(model, rows))
    # The same graph with a graph output on the features: they are then no longer only read by Gemm.
    model = fraud_like()
    model.graph.outputs.append(next(n for n in model.graph if n.op_type == "Concat").outputs[0])
    prepared, plan, parameters = parameters_for(model, rows, STATIC)
    assert plan.activations["features"].axis is None
    one_scale = relative_error(
        run(write(prepared, plan, parameters, {}), rows), run(fraud_like(), rows)
    )
    assert columns < 0.7 * one_scale


@pytest.mark.parametrize("target", ["x86_avx2", "arm_dotprod", "x86_vnni"])
def test_other_targets_write_valid_models(target):
    rows = fraud_rows(500)
    _, _, int8 = quantized(fraud_like(), rows, STATIC, target)
    assert relative_error(run(int8, rows), run(fraud_like(), rows)) < 0.04


def test_writing_twice_gives_the_same_bytes_and_leaves_the_input_alone():
    rows = fraud_rows(500)
    prepared, plan, parameters = parameters_for(fraud_like(), rows, STATIC)
    before = model_bytes(prepared)
    first, second = (model_bytes(write(prepared, plan, parameters, {"a": "b"})) for _ in range(2))
    assert first == second
    assert model_bytes(prepared) == before


def test_metadata_says_what_it_is():
    _, _, int8 = quantized(fraud_like(), fraud_rows(100))
    assert int8.metadata_props["qtool.target"] == "x86_amx"


def test_a_table_ruled_to_float_stays_float_in_the_file():
    rule = StaticQuantization(method="static", layers=[LayerRule(match="table.0", method="float")])
    rows = fraud_rows(500)
    _, _, int8 = quantized(fraud_like(), rows, rule)
    tables = {
        name: value.dtype.numpy()
        for name, value in int8.graph.initializers.items()
        if "table" in name
    }
    assert tables == {"table.0.weight": np.float32, "table.1.weight.codes": np.uint8}
    assert kernels(int8)["QGemm"] == 3
    assert relative_error(run(int8, rows), run(fraud_like(), rows)) < 0.03


def test_coverage_says_what_runs():
    prepared, plan, int8 = quantized(fraud_like(), fraud_rows(500))
    found = {
        n.name: n.runs_as for n in coverage(prepared, plan, kernels_of(model_bytes(int8), "test"))
    }
    assert found["body.0"] == "QGemm"
    assert found["table.0"] == "Gather (8-bit table)"
    by_operator = {
        n.op_type: n.runs_as
        for n in coverage(prepared, plan, kernels_of(model_bytes(int8), "test"))
    }
    assert by_operator["Relu"] == "QGemm on codes"
    assert by_operator["Concat"] == "Concat on codes"


def test_a_table_that_feeds_an_output_keeps_its_numbers():
    rows = {**fraud_rows(200)}
    model = fraud_like()
    row = next(v for n in model.graph for v in n.outputs if v.name == "row0")
    row.dtype, row.shape = ir.DataType.FLOAT, ir.Shape(["batch", 4])
    model.graph.outputs.append(row)
    _, plan, int8 = quantized(model, rows)
    session = Session(model_bytes(int8), "test")
    expected = Session(model_bytes(model), "test").run(rows)["row0"]
    np.testing.assert_array_equal(session.run(rows)["row0"], expected)
    assert unfused_parity(int8, plan, [rows]).rows == 200
