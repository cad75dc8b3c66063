"""What prepare does not know, it keeps: control flow, functions, operators of other domains."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.graphs import model_of

from qtool.errors import ModelError
from qtool.graph.model_file import model_bytes
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.sessions import Session

FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
GENERATOR = np.random.default_rng(0)


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def node(op_type, *inputs, output, **attributes):
    return helper.make_node(op_type, list(inputs), [output], **attributes)


def value(name, *shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, list(shape))


def check_equal(model, *batches):
    """Checks that the prepared model is valid and gives the same; returns it."""
    prepared = prepare(model)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(prepared)))
    original, changed = Session(model, "original"), Session(prepared, "prepared")
    for batch in batches:
        expected, found = original.run(batch), changed.run(batch)
        assert expected.keys() == found.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    return prepared


def test_branches_keep_what_they_take_from_outside():
    """A weight that a layer and a branch share, an activation, and a constant of the branch."""
    then = helper.make_graph(
        [
            node("MatMul", "r", "w", output="product"),
            node("Add", "product", "shift", output="then_y"),
        ],
        "then",
        [],
        [value("then_y", "batch", 8)],
        [numpy_helper.from_array(floats(8), "shift")],
    )
    other = helper.make_graph(
        [node("Add", "g", "b", output="else_y")], "else", [], [value("else_y", "batch", 8)]
    )
    nodes = [
        node("MatMul", "x", "w", output="p"),
        node("Add", "p", "b", output="g"),
        node("Relu", "g", output="r"),
        node("If", "condition", output="i", then_branch=then, else_branch=other),
        node("Gemm", "i", "w", "b", output="y"),
    ]
    model = model_of(
        nodes,
        [("x", FLOAT, ["batch", 8]), ("condition", BOOL, [])],
        [("y", FLOAT, ["batch", 8])],
        {"w": floats(8, 8), "b": floats(8)},
    )
    x = floats(5, 8)
    batches = [{"x": x, "condition": np.array(flag)} for flag in (True, False)]
    prepared = check_equal(model, *batches)
    assert [one.op_type for one in prepared.graph if one.op_type != "If"] == [
        "Gemm",
        "Relu",
        "Gemm",
    ]


def test_a_loop_stays():
    body = helper.make_graph(
        [
            node("MatMul", "state", "w", output="product"),
            node("Tanh", "product", output="next"),
            node("Identity", "going", output="still"),
        ],
        "body",
        [value("step", dtype=INT64), value("going", dtype=BOOL), value("state", "batch", 8)],
        [value("still", dtype=BOOL), value("next", "batch", 8)],
    )
    nodes = [
        node("Relu", "x", output="r"),
        helper.make_node("Loop", ["steps", "", "r"], ["last"], body=body),
        node("MatMul", "last", "w", output="y"),
    ]
    constants = {"w": floats(8, 8), "steps": np.array(3)}
    inputs, outputs = [("x", FLOAT, ["batch", 8])], [("y", FLOAT, ["batch", 8])]
    prepared = check_equal(model_of(nodes, inputs, outputs, constants), {"x": floats(5, 8)})
    assert [one.op_type for one in prepared.graph] == ["Relu", "Loop", "MatMul"]


def test_a_scan_stays():
    body = helper.make_graph(
        [
            node("Add", "sum", "part", output="total"),
            node("Mul", "total", "half", output="next"),
            node("Identity", "next", output="seen"),
        ],
        "body",
        [value("sum", 8), value("part", 8)],
        [value("next", 8), value("seen", 8)],
    )
    scan = helper.make_node("Scan", ["zero", "x"], ["last", "y"], body=body, num_scan_inputs=1)
    constants = {"zero": np.zeros(8, np.float32), "half": np.float32(0.5)}
    inputs, outputs = [("x", FLOAT, ["batch", 8])], [("y", FLOAT, ["batch", 8])]
    check_equal(model_of([scan], inputs, outputs, constants), {"x": floats(5, 8)})


def test_functions_are_inlined():
    function = helper.make_function(
        "local",
        "Swish",
        ["v"],
        ["w"],
        [node("Sigmoid", "v", output="s"), node("Mul", "v", "s", output="w")],
        [helper.make_opsetid("", 20)],
    )
    nodes = [
        node("Gemm", "x", "w", output="a"),
        node("Swish", "a", output="y", domain="local"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x", "batch", 8)],
        [value("y", "batch", 4)],
        [numpy_helper.from_array(floats(8, 4), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    proto = helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    prepared = check_equal(ir.from_proto(proto), {"x": floats(5, 8)})
    assert [one.op_type for one in prepared.graph] == ["Gemm", "Sigmoid", "Mul"]
    assert not prepared.functions


def microsoft(op_type, *inputs, output="a", outputs=None, **attributes):
    names = outputs or [output]
    return helper.make_node(op_type, list(inputs), names, domain="com.microsoft", **attributes)


MICROSOFT = {
    "Gelu": microsoft("Gelu", "x"),
    "FastGelu": microsoft("FastGelu", "x", "b"),
    "QuickGelu": microsoft("QuickGelu", "x"),
    "BiasGelu": microsoft("BiasGelu", "x", "b"),
    "SkipLayerNormalization": microsoft("SkipLayerNormalization", "x", "x", "b", "b"),
    "Attention": microsoft("Attention", "x", "qkv", "qkv_bias", num_heads=2),
    "MultiHeadAttention": microsoft("MultiHeadAttention", "x", "x", "x", num_heads=2),
    "FusedMatMul": microsoft("FusedMatMul", "x", "x", transB=1),
}


@pytest.mark.parametrize("name", MICROSOFT)
def test_operators_of_the_runtime_stay_and_what_follows_has_a_dtype(name):
    width = 6 if name == "FusedMatMul" else 8
    nodes = [MICROSOFT[name], node("MatMul", "a", "w", output="y")]
    constants = {
        "w": floats(width, 4),
        "b": floats(8),
        "qkv": floats(8, 24),
        "qkv_bias": floats(24),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x", "batch", 6, 8)],
        [value("y", "batch", 6, 4)],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    prepared = check_equal(ir.from_proto(proto), {"x": floats(3, 6, 8)})
    assert [one.op_type for one in prepared.graph] == [name, "MatMul"]
    activation = prepared.graph[1].inputs[0]
    assert activation.dtype == ir.DataType.FLOAT
    assert len(activation.shape) == 3
    assert activation.shape[0].value == "batch"


def test_an_embedding_of_the_runtime_has_a_shape():
    nodes = [
        microsoft(
            "EmbedLayerNormalization",
            *("codes", "", "table", "positions", "", "b", "b"),
            outputs=["a", "mask"],
        ),
        node("MatMul", "a", "w", output="y"),
    ]
    constants = {"table": floats(20, 8), "positions": floats(6, 8), "b": floats(8)}
    constants["w"] = floats(8, 4)
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("codes", "batch", 6, dtype=TensorProto.INT32)],
        [value("y", "batch", 6, 4)],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    codes = GENERATOR.integers(0, 20, (3, 6)).astype(np.int32)
    prepared = check_equal(ir.from_proto(proto), {"codes": codes})
    activation = prepared.graph[1].inputs[0]
    assert (activation.dtype, len(activation.shape)) == (ir.DataType.FLOAT, 3)


def test_a_custom_operator_stays_in_the_graph():
    nodes = [
        node("Foo", "x", output="a", domain="my.domain"),
        node("MatMul", "a", "w", output="y"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [value("x", "batch", 8)],
        [value("y", "batch", 4)],
        [numpy_helper.from_array(floats(8, 4), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my.domain", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    prepared = prepare(ir.from_proto(proto))
    assert [one.op_type for one in prepared.graph] == ["Foo", "MatMul"]
    with pytest.raises(
        ModelError, match=r"my\.domain:Foo.*An operator of its own library is not supp"
    ):
        Session(prepared, "the model")


def test_a_model_in_training_mode_is_refused():
    nodes = [
        helper.make_node(
            "BatchNormalization", ["x", *"stmv"], ["y", "mean", "variance"], training_mode=1
        )
    ]
    constants = {name: np.ones(8, np.float32) for name in "stmv"}
    inputs, outputs = [("x", FLOAT, ["batch", 8])], [("y", FLOAT, ["batch", 8])]
    with pytest.raises(ModelError, match=r"in training mode: a row's score .* Export it"):
        prepare(model_of(nodes, inputs, outputs, constants))


@pytest.mark.parametrize("inside", [False, True])
def test_a_quantized_model_is_refused(inside):
    quantize = node("QuantizeLinear", "x", "scale", "zero", output="q")
    back = node("DequantizeLinear", "q", "scale", "zero", output="y")
    nodes = [quantize, back]
    if inside:
        branches = {
            branch: helper.make_graph(
                [quantize, node("DequantizeLinear", "q", "scale", "zero", output=f"{branch}_y")],
                branch,
                [],
                [value(f"{branch}_y", "batch", 8)],
            )
            for branch in ("then_branch", "else_branch")
        }
        nodes = [node("If", "true", output="y", **branches)]
    model = model_of(
        nodes,
        [("x", FLOAT, ["batch", 8])],
        [("y", FLOAT, ["batch", 8])],
        {"scale": np.float32(0.1), "zero": np.uint8(0), "true": np.array(True)},
    )
    with pytest.raises(ModelError, match="already quantized: it has DequantizeLinear, Quanti"):
        prepare(model)


def test_a_stale_shape_of_a_constant_is_dropped():
    inputs, outputs = [("x", FLOAT, ["batch", 8])], [("y", FLOAT, ["batch", 4])]
    nodes = [node("MatMul", "x", "w", output="y")]
    model = model_of(nodes, inputs, outputs, {"w": floats(8, 4)})
    model.graph.initializers["w"].shape = ir.Shape([8, 5])
    assert prepare(model).graph.initializers["w"].shape == (8, 4)
