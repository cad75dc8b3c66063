"""Activations that kernels quantize themselves: bit for bit what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from qtool.graph.writing.dense import pack_blocks
from qtool.runtime.sessions import Session
from qtool.torchgraph.dynamic_quant import dynamic_quantize, quantize_row_blocks

VALUES = st.one_of(
    arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32)),
    arrays(np.float32, (4, 3), elements=st.sampled_from([0, 0.25, 0.5, 1, 2, 3, 100])),
)


def session(nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return Session(model.SerializeToString(), "test")


@pytest.fixture(scope="module")
def dynamic_quantize_linear():
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero_point"])
    outputs = [
        ("q", TensorProto.UINT8, [4, 3]),
        ("scale", TensorProto.FLOAT, []),
        ("zero_point", TensorProto.UINT8, []),
    ]
    return session([node], [("x", TensorProto.FLOAT, [4, 3])], outputs, {})


@settings(deadline=None)
@given(VALUES)
def test_equals_dynamic_quantize_linear_bit_for_bit(dynamic_quantize_linear, values):
    # Below the smallest normal number torch and the runtime need not agree.
    values = np.where(np.abs(values) < 1e-30, 0, values).astype(np.float32)
    found = dynamic_quantize_linear.run({"x": values})
    centred = found["q"].astype(np.float32) - np.float32(found["zero_point"])
    expected = centred * found["scale"]
    np.testing.assert_array_equal(dynamic_quantize(torch.tensor(values)).numpy(), expected)


def test_dynamic_by_hand():
    """Range -1 to 1.55, scale 0.01, zero point 100."""
    x = torch.tensor([-1.0, 0.014, 1.55, 0.0], requires_grad=True)
    rounded = dynamic_quantize(x)
    assert rounded.tolist() == pytest.approx([-1.0, 0.01, 1.55, 0.0])
    rounded.sum().backward()
    assert x.grad.tolist() == [1.0] * 4


def test_zeros_stay_zeros():
    zeros = torch.zeros(2, 40)
    assert torch.equal(dynamic_quantize(zeros), zeros)
    assert torch.equal(quantize_row_blocks(zeros, 16), zeros)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("block", "size"), [(16, 64), (32, 100), (128, 200)])
def test_row_blocks_are_those_of_the_kernel(bits, block, size):
    """A unit matrix as weight gives the activation back as the kernel has rounded it."""
    packed = pack_blocks(np.eye(size, dtype=np.int8), bits, block)
    node = helper.make_node(
        "MatMulNBits",
        ["x", "b", "scales"],
        ["y"],
        domain="com.microsoft",
        K=size,
        N=size,
        bits=bits,
        block_size=block,
        accuracy_level=4,
    )
    constants = {"b": packed, "scales": np.ones((size, packed.shape[1]), np.float32)}
    shape = ("x", TensorProto.FLOAT, [7, size]), ("y", TensorProto.FLOAT, [7, size])
    x = np.random.default_rng(0).standard_normal((7, size)).astype(np.float32)
    kernel = session([node], [shape[0]], [shape[1]], constants).run({"x": x})["y"]
    found = quantize_row_blocks(torch.tensor(x), block).numpy()
    # The 8-bit kernel subtracts its zero point in float32 sums, which blurs by up to a tenth of a
    # step; another code would be a whole one.
    largest = np.abs(x).max()
    assert np.abs(found - kernel).max() < 0.2 * largest / 127
    assert np.abs(x - kernel).max() > 0.4 * np.abs(x).min(axis=1).max() / 127


def test_row_blocks_by_hand():
    x = torch.tensor([[127.0, 0.4, 3.0, 1.27]], requires_grad=True)
    rounded = quantize_row_blocks(x, 3)
    assert rounded.tolist() == [[127.0, 0.0, 3.0, pytest.approx(1.27)]]
    (rounded * torch.arange(4.0)).sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 2.0, 3.0]]
