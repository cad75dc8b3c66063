from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.graphs import dense, fraud_like, fraud_rows, mlp, model_of
from support.quantizing import run

from qtool.graph.model_file import model_bytes, outputs_of, read_model, write_model
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.sessions import Session

X = np.random.default_rng(0).standard_normal((33, 8)).astype(np.float32)


def operators(model):
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("opset", [13, 17, 21, 23])
@pytest.mark.parametrize("matmul", [False, True])
def test_dense_layers_get_one_form_and_the_same_outputs(opset, matmul):
    model = mlp(opset=opset, matmul=matmul)
    prepared = prepare(model)
    assert operators(prepared) == ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    np.testing.assert_allclose(run(prepared, {"x": X}), run(model, {"x": X}), rtol=1e-5, atol=1e-6)


def test_transposed_and_scaled_gemm_is_folded():
    generator = np.random.default_rng(0)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0)
    constants = {"w": dense(generator, 4, 8), "b": np.ones((1, 4), np.float32)}
    outputs = [("y", TensorProto.FLOAT, ["batch", 4])]
    model = model_of([node], [("x", TensorProto.FLOAT, ["batch", 8])], outputs, constants)
    prepared = prepare(model)
    (gemm,) = prepared.graph
    assert not gemm.attributes
    assert [tuple(value.shape) for value in gemm.inputs[1:]] == [(8, 4), (4,)]
    np.testing.assert_allclose(run(prepared, {"x": X}), run(model, {"x": X}), rtol=1e-5)


def test_batch_norm_is_folded():
    generator = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"]),
        helper.make_node("BatchNormalization", ["g", "s", "t", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    constants = {"w": dense(generator, 8, 4), "b": dense(generator, 4)}
    constants |= {name: generator.uniform(0.5, 2, 4).astype(np.float32) for name in "stmv"}
    outputs = [("y", TensorProto.FLOAT, ["batch", 4])]
    model = model_of(nodes, [("x", TensorProto.FLOAT, ["batch", 8])], outputs, constants)
    prepared = prepare(model)
    assert operators(prepared) == ["Gemm", "Relu"]
    np.testing.assert_allclose(run(prepared, {"x": X}), run(model, {"x": X}), rtol=1e-4, atol=1e-5)


def test_a_shared_constant_is_given_to_each_layer():
    w = dense(np.random.default_rng(0), 8, 8)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Gemm", ["r", "w", "b"], ["y"]),
    ]
    outputs = [("y", TensorProto.FLOAT, ["batch", 8])]
    constants = {"w": w, "b": w[0]}
    model = model_of(nodes, [("x", TensorProto.FLOAT, ["batch", 8])], outputs, constants)
    prepared = prepare(model)
    first, second = (node for node in prepared.graph if node.op_type == "Gemm")
    assert {value.name for value in first.inputs[1:]}.isdisjoint(v.name for v in second.inputs[1:])
    np.testing.assert_allclose(run(prepared, {"x": X}), run(model, {"x": X}), rtol=1e-5, atol=1e-6)


def test_nodes_are_named_after_their_weights():
    prepared = prepare(fraud_like())
    named = {node.name for node in prepared.graph}
    assert {"table.0", "table.1", "body.0", "body.1", "head"} <= named
    rows = fraud_rows(50)
    np.testing.assert_allclose(run(prepared, rows), run(fraud_like(), rows), rtol=1e-5, atol=1e-6)


def test_prepared_models_are_valid_and_deterministic():
    first, second = model_bytes(prepare(fraud_like())), model_bytes(prepare(fraud_like()))
    assert first == second
    onnx.checker.check_model(onnx.load_from_string(first), full_check=True)
    assert outputs_of(prepare(fraud_like()))[0].shape == ("batch",)


def test_the_given_model_is_left_alone():
    model = mlp(matmul=True)
    before = model_bytes(model)
    prepare(model)
    assert model_bytes(model) == before


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_a_constant_that_differs_by_row_is_no_bias(operator):
    generator = np.random.default_rng(0)
    constants = {"w": dense(generator, 8, 4), "b": dense(generator, 4, 1)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    if operator == "MatMul":
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Add", ["m", "b"], ["y"]),
        ]
    outputs = [("y", TensorProto.FLOAT, ["batch", 4])]
    model = model_of(nodes, [("x", TensorProto.FLOAT, ["batch", 8])], outputs, constants)
    rows = {"x": X[:4]}
    np.testing.assert_allclose(run(prepare(model), rows), run(model, rows), rtol=1e-5)


def test_two_flattens_of_one_value():
    nodes = [
        helper.make_node("Flatten", ["x"], ["a"], axis=1),
        helper.make_node("Flatten", ["x"], ["b"], axis=2),
    ]
    outputs = [("a", TensorProto.FLOAT, ["n", 6]), ("b", TensorProto.FLOAT, ["m", 2])]
    model = model_of(nodes, [("x", TensorProto.FLOAT, ["n", 3, 2])], outputs, {})
    rows = {"x": np.arange(12, dtype=np.float32).reshape(2, 3, 2)}
    found, expected = (Session(graph, "test").run(rows) for graph in (prepare(model), model))
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_prepared_file_need_not_list_its_weights_as_inputs(tmp_path):
    model = mlp()
    model.ir_version = 3
    prepared = prepare(model)
    write_model(tmp_path / "model.onnx", prepared)
    assert read_model(tmp_path / "model.onnx").ir_version >= 4
