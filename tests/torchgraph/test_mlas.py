"""Sigmoid and tanh of the kernels, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch

from qtool.runtime.sessions import Session
from qtool.torchgraph import mlas

VALUES = np.concatenate(
    [np.linspace(-20, 20, 100_001), np.geomspace(1e-30, 1, 1001), [-0.0, 0.0, -1e30, 1e30]]
).astype(np.float32)


def of_runtime(operator):
    x, y = (ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT)) for name in "xy")
    x.shape = y.shape = ir.Shape([len(VALUES)])
    node = ir.Node("", operator, [x], outputs=[y])
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 21}, name="one")
    return Session(ir.Model(graph, ir_version=10), operator).run({"x": VALUES})["y"]


@pytest.mark.parametrize(("operator", "ours"), [("Sigmoid", mlas.sigmoid), ("Tanh", mlas.tanh)])
def test_is_that_of_the_runtime(operator, ours):
    found, expected = ours(torch.from_numpy(VALUES)).numpy(), of_runtime(operator)
    # Another vector unit may have another kernel: there the last bits differ.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    plain = {"Sigmoid": torch.sigmoid, "Tanh": torch.tanh}[operator](torch.from_numpy(VALUES))
    assert (found == expected).mean() > (plain.numpy() == expected).mean()
