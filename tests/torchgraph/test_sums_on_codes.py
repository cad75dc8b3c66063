"""Sums of dequantized values: the codes of QLinearAdd, also halfway between two codes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from qtool.numerics.affine import QuantSpec
from qtool.runtime.sessions import Session
from qtool.torchgraph.fake_quant import fake_quantize, fake_quantize_sum

SPEC = QuantSpec("uint8", symmetric=False)
COUNT = 4000
ROUND = [width / np.float32(255) for width in np.float32([5, 7.5, 10, 12.5, 20, 25, 30])]
"""Ratios of these scales are simple fractions, so that many sums are halfway between two codes."""


def runtime_codes(codes, scales, zero_points):
    names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "scale", "zero"]
    constants = dict(
        zip(
            names[1:3] + names[4:],
            [scales[0], zero_points[0], scales[1], zero_points[1], scales[2], zero_points[2]],
            strict=True,
        )
    )
    graph = helper.make_graph(
        [helper.make_node("QLinearAdd", names, ["c"], domain="com.microsoft")],
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, [COUNT]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.UINT8, [COUNT])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return Session(model.SerializeToString(), "test").run(dict(zip("ab", codes, strict=True)))["c"]


@pytest.mark.parametrize("seed", range(8))
def test_codes_are_those_of_the_kernel(seed):
    random = np.random.default_rng(seed)
    scales = random.choice(ROUND, 3)
    zero_points = random.integers(0, 256, 3).astype(np.uint8)
    codes = random.integers(0, 256, (2, COUNT)).astype(np.uint8)
    expected = runtime_codes(codes, scales, zero_points)
    tensors = [
        torch.tensor((c.astype(np.float32) - np.float32(z)) * s)
        for c, z, s in zip(codes, zero_points, scales, strict=False)
    ]
    a_scale, b_scale, scale = (torch.tensor(value) for value in scales)
    zeros = tuple(int(zero) for zero in zero_points)
    found = fake_quantize_sum(tuple(tensors), (a_scale, b_scale), scale, zeros, SPEC, 1)
    np.testing.assert_array_equal(np.rint(found.numpy() / scales[2]) + zeros[2], expected)


def test_gradients_are_those_of_the_quantized_sum():
    a, b = (torch.linspace(-2, 2, 9, requires_grad=True) for _ in range(2))
    scale, own = torch.tensor(0.02, requires_grad=True), torch.tensor(0.5)
    mine = fake_quantize_sum((a, b), (own, own), scale, (4, 4, 100), SPEC, count=3)
    found = torch.autograd.grad(mine.square().sum(), (a, b, scale))
    plain = fake_quantize(a + b, scale, 100, SPEC, count=3)
    expected = torch.autograd.grad(plain.square().sum(), (a, b, scale))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
