"""Each pass of prepare: what it makes of a graph, and that the outputs stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.graphs import model_of

from qtool.graph.model_file import model_bytes
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.kernels import kernels_of
from qtool.runtime.sessions import Session

FLOAT = TensorProto.FLOAT
GENERATOR = np.random.default_rng(0)


def floats(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def node(op_type, *inputs, output, **attributes):
    return helper.make_node(op_type, list(inputs), [output], **attributes)


def prepared_equal(nodes, x, constants, output=("batch", None, None), opset=20):
    """Prepares the graph, compares it with the original and returns it."""
    shape = ["batch", *x.shape[1:]]
    outputs = [("y", FLOAT, list(output))]
    model = model_of(nodes, [("x", FLOAT, shape)], outputs, constants, opset)
    prepared = prepare(model)
    onnx.checker.check_model(onnx.load_from_string(model_bytes(prepared)), full_check=True)
    expected = Session(model, "original").run({"x": x})["y"]
    found = Session(prepared, "prepared").run({"x": x})["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    return prepared


def operators(model):
    return [one.op_type for one in model.graph]


NORM = {"s": floats(8), "t": floats(8), "m": floats(8), "v": np.abs(floats(8)) + 0.5}
BATCH_NORM = node("BatchNormalization", "a", *"stmv", output="y")


@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_goes_into_a_product_with_or_without_bias(bias):
    nodes = [node("MatMul", "x", "w", output="a"), BATCH_NORM]
    if bias:
        nodes[0] = node("MatMul", "x", "w", output="p")
        nodes.insert(1, node("Add", "p", "b", output="a"))
    constants = {"w": floats(5, 8), "b": floats(8), **NORM}
    prepared = prepared_equal(nodes, floats(6, 5), constants, ("batch", 8))
    assert operators(prepared) == ["Gemm"]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dimensions", [1, 2])
def test_batch_norm_goes_into_a_convolution(bias, dimensions):
    kernel = (3,) * dimensions
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [node("Conv", *inputs, output="a"), BATCH_NORM]
    constants = {"w": floats(8, 4, *kernel), "b": floats(8), **NORM}
    x = floats(3, 4, *[7] * dimensions)
    prepared = prepared_equal(nodes, x, constants, ("batch", *[None] * (dimensions + 1)))
    assert operators(prepared) == ["Conv"]


def test_batch_norm_with_shared_numbers_goes_into_each_layer():
    """torch 2.13 merges constants that are equal: a zero bias, a fresh scale and variance."""
    nodes = [
        node("Gemm", "x", "w", "zero", output="a", transB=1),
        node("BatchNormalization", "a", "one", "zero", "zero", "one", output="n"),
        node("Relu", "n", output="r"),
        node("Gemm", "r", "w", "zero", output="c"),
        node("BatchNormalization", "c", "one", "zero", "zero", "one", output="y"),
    ]
    constants = {"w": floats(8, 8), "zero": np.zeros(8, np.float32), "one": np.ones(8, np.float32)}
    prepared = prepared_equal(nodes, floats(6, 8), constants, ("batch", 8))
    assert operators(prepared) == ["Gemm", "Relu", "Gemm"]


@pytest.mark.parametrize(
    ("operator", "shape"),
    [("Mul", (8, 1)), ("Mul", (1, 8, 1)), ("Add", (8, 1)), ("Mul", ()), ("Add", (1, 1, 1))],
)
def test_numbers_per_channel_go_into_a_convolution(operator, shape):
    nodes = [node("Conv", "x", "w", output="a"), node(operator, "n", "a", output="y")]
    prepared = prepared_equal(nodes, floats(3, 4, 9), {"w": floats(8, 4, 3), "n": floats(*shape)})
    assert operators(prepared) == ["Conv"]


@pytest.mark.parametrize("shape", [(7,), (1, 8, 7), (2, 1, 8, 1)])
def test_other_numbers_stay(shape):
    nodes = [node("Conv", "x", "w", output="a"), node("Mul", "a", "n", output="y")]
    output = ("batch", None, None) if len(shape) < 4 else (2, "batch", None, None)
    model = model_of(
        nodes,
        [("x", FLOAT, ["batch", 4, 9])],
        [("y", FLOAT, list(output))],
        {"w": floats(8, 4, 3), "n": floats(*shape)},
    )
    assert operators(prepare(model)) == ["Conv", "Mul"]


def test_a_layer_that_is_read_twice_keeps_its_numbers():
    nodes = [
        node("Gemm", "x", "w", output="a"),
        node("Mul", "a", "n", output="m"),
        node("Sub", "m", "a", output="y"),
    ]
    constants = {"w": floats(5, 8), "n": floats(8)}
    prepared = prepared_equal(nodes, floats(6, 5), constants, ("batch", 8))
    assert operators(prepared) == ["Gemm", "Mul", "Sub"]


def test_a_convolution_without_bias_gets_zeros():
    nodes = [node("Conv", "x", "w", output="y")]
    (conv,) = prepared_equal(nodes, floats(3, 4, 9), {"w": floats(8, 4, 3)}).graph
    np.testing.assert_array_equal(conv.inputs[2].const_value.numpy(), np.zeros(8))


def chomp(pads, start, end, axis, **attributes):
    nodes = [
        node("Conv", "x", "w", "b", output="a", pads=pads, **attributes),
        node("Slice", "a", "start", "end", "axis", output="y"),
    ]
    constants = {"w": floats(8, 4, 3), "b": floats(8)}
    numbers = {"start": start, "end": end, "axis": axis}
    constants |= {name: np.array([number]) for name, number in numbers.items()}
    return prepared_equal(nodes, floats(3, 4, 9), constants)


def test_steps_that_are_cut_off_are_not_computed():
    (conv,) = chomp([4, 4], 0, -4, 2, dilations=[2]).graph
    assert list(conv.attributes.get_ints("pads")) == [4, 0]


@pytest.mark.parametrize(
    "case",
    [([2, 1], 0, -2, 2, {}), ([2, 2], 1, -2, 2, {}), ([2, 2], 0, 3, 2, {}), ([2, 2], 0, -2, 1, {})],
)
def test_other_cuts_stay(case):
    *arguments, attributes = case
    assert operators(chomp(*arguments, **attributes)) == ["Conv", "Slice"]
    assert operators(chomp([2, 2], 0, -1, 2, strides=[2])) == ["Conv", "Slice"]


def test_a_symbolic_batch_stays():
    nodes = [node("Conv", "x", "w", output="a"), node("Mul", "a", "n", output="y")]
    constants = {"w": floats(8, 4, 3), "n": floats(8, 1)}
    (output,) = prepared_equal(nodes, floats(3, 4, 9), constants).graph.outputs
    assert (output.name, output.shape[0].value, output.shape[1:]) == ("y", "batch", (8, 7))


def test_flatten_becomes_reshape():
    nodes = [node("Relu", "x", output="r"), node("Flatten", "r", output="y")]
    prepared = prepared_equal(nodes, floats(3, 4, 9), {}, ("batch", 36))
    assert operators(prepared) == ["Relu", "Reshape"]
    empty = Session(prepared, "prepared").run({"x": floats(0, 4, 9)})["y"]
    assert empty.shape == (0, 36)


def normalization(decomposed):
    if not decomposed:
        return [node("LayerNormalization", "a", "g", "h", output="y")]
    return [
        node("ReduceMean", "a", "axes", output="mean"),
        node("Sub", "a", "mean", output="centred"),
        node("Pow", "centred", "two", output="square"),
        node("ReduceMean", "square", "axes", output="variance"),
        node("Add", "variance", "epsilon", output="positive"),
        node("Sqrt", "positive", output="deviation"),
        node("Div", "centred", "deviation", output="normal"),
        node("Mul", "normal", "g", output="scaled"),
        node("Add", "scaled", "h", output="y"),
    ]


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("other", ["x", "positions"])
def test_a_residual_is_not_fused_with_its_normalization(decomposed, other):
    nodes = [
        node("MatMul", "x", "w", output="p"),
        node("Add", "p", other, output="a"),
        *normalization(decomposed),
    ]
    constants = {
        "w": floats(8, 8),
        "g": floats(8),
        "h": floats(8),
        "axes": np.array([-1]),
        "two": np.float32(2),
        "epsilon": np.float32(1e-5),
        "positions": floats(1, 6, 8),
    }
    prepared = prepared_equal(nodes, floats(3, 6, 8), constants)
    assert "Sum" in operators(prepared)
    kernels = [kernel.op_type for kernel in kernels_of(prepared, "prepared")]
    assert "LayerNormalization" in kernels
    assert "SkipLayerNormalization" not in kernels


def test_a_bias_in_front_of_a_normalization_stays_with_its_layer():
    nodes = [
        node("MatMul", "x", "w", output="p"),
        node("Add", "p", "b", output="a"),
        *normalization(False),
    ]
    constants = {"w": floats(8, 8), "b": floats(8), "g": floats(8), "h": floats(8)}
    prepared = prepared_equal(nodes, floats(3, 6, 8), constants)
    assert operators(prepared) == ["MatMul", "Add", "LayerNormalization"]
