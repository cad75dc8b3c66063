"""Opset 11 and 12 against ONNX Runtime running the original."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qtool.errors import ModelError
from qtool.graph.model_file import model_bytes
from qtool.graph.prepare.opset import convert_opset
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.sessions import Session

GENERATOR = np.random.default_rng(0)
X = GENERATOR.standard_normal((5, 3, 4)).astype(np.float32)
FLOAT = TensorProto.FLOAT


def node(op_type, *inputs, output="y", **attributes):
    return helper.make_node(op_type, list(inputs), [output], **attributes)


def branch(output, *nodes):
    value = helper.make_tensor_value_info(output, FLOAT, [None, None, None])
    return helper.make_graph(list(nodes), output, [], [value])


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


CASES = {
    "Softmax that flattens": ([node("Softmax", "x", axis=1)], {}),
    "Softmax with its default axis": ([node("Softmax", "x")], {}),
    "Softmax of the last axis": ([node("Softmax", "x", axis=2)], {}),
    "LogSoftmax": ([node("LogSoftmax", "x", axis=1)], {}),
    "axes of Squeeze": (
        [node("Unsqueeze", "x", output="u", axes=[1]), node("Squeeze", "u", axes=[1])],
        {},
    ),
    "Squeeze without axes": (
        [node("Unsqueeze", "x", output="u", axes=[1]), node("Squeeze", "u")],
        {},
    ),
    "axes of ReduceSum": ([node("ReduceSum", "x", axes=[1], keepdims=1)], {}),
    "axes of ReduceMean": ([node("ReduceMean", "x", axes=[-1], keepdims=1)], {}),
    "Split": (
        [
            helper.make_node("Split", ["x"], ["a", "b"], axis=1, split=[1, 2]),
            helper.make_node("Relu", ["b"], ["y"]),
        ],
        {},
    ),
    "Clip": ([node("Clip", "x", "low", "high")], {"low": np.float32(-1), "high": np.float32(1)}),
    "Clip without a lower limit": ([node("Clip", "x", "", "high")], {"high": np.float32(0.5)}),
    "BatchNormalization": (
        [node("BatchNormalization", "x", *"stmv")],
        {name: GENERATOR.uniform(0.5, 2, 3).astype(np.float32) for name in "stmv"},
    ),
    "Pad": ([node("Pad", "x", "pads")], {"pads": np.array([0, 0, 1, 0, 0, 2])}),
    "dense with Softmax": (
        [
            node("MatMul", "x", "w", output="a"),
            node("Add", "a", "b", output="c"),
            node("Softmax", "c", axis=1),
        ],
        {"w": floats(4, 300), "b": floats(300)},
    ),
    "LSTM": (
        [node("LSTM", "x", "w", "r", output="h", hidden_size=2), node("Squeeze", "h", axes=[1])],
        {"w": floats(1, 8, 4), "r": floats(1, 8, 2)},
    ),
    "Microsoft's Gelu": (
        [node("Gelu", "x", output="g", domain="com.microsoft"), node("Softmax", "g", axis=1)],
        {},
    ),
    "a branch of If": (
        [
            node(
                "If",
                "condition",
                then_branch=branch("then", node("Relu", "x", output="then")),
                else_branch=branch("else", node("Softmax", "x", output="else", axis=1)),
            )
        ],
        {"condition": np.array(False)},
    ),
}


def old_model(nodes, constants, opset):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 3, 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", None, None])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=6)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


@pytest.mark.parametrize("opset", [11, 12])
@pytest.mark.parametrize("name", CASES)
def test_old_operators_mean_the_same(name, opset):
    model = old_model(*CASES[name], opset)
    expected = Session(model_bytes(model), "original").run({"x": X})["y"]
    for form in (convert_opset(model), prepare(model)):
        assert form.opset_imports[""] == 13
        onnx.checker.check_model(onnx.load_from_string(model_bytes(form)))
        found = Session(form, name).run({"x": X})["y"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_large_weights_stay_as_they_are():
    model = old_model(*CASES["dense with Softmax"], 12)
    weights = model.graph.initializers["w"].const_value
    assert convert_opset(model).graph.initializers["w"].const_value is weights


def test_a_new_opset_is_left_alone():
    model = prepare(old_model(*CASES["Clip"], 12))
    assert convert_opset(model) is model


@pytest.mark.parametrize("operator", ["Hardmax", "Upsample"])
def test_what_has_no_conversion_is_an_error(operator):
    nodes = [node(operator, "x")]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, ["batch", 3, 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 3, 4])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=6)
    with pytest.raises(ModelError, match="opset 12: cannot be converted to opset 13"):
        prepare(ir.from_proto(proto))
