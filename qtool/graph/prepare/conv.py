"""Brings every convolution into one form: Conv(x, W, bias of shape (C,)), padded by its attribute.

1. A missing bias becomes zeros; constants that several places share are copied.
2. A Slice that cuts the last steps off a convolution which pads that many at the end (the "chomp"
   of causal convolutions) becomes less padding: nothing is computed to be thrown away, and nothing
   stands between two convolutions. FP32 TCN of 4 levels, 100 steps, batch 1, one core: 1.19x with
   32 channels, 1.13x with 64, 1.07x with 128.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qtool.graph.model_file import constant
from qtool.graph.prepare.ownership import own
from qtool.graph.prepare.removal import remove


def conv(model: ir.Model) -> None:
    """Rewrites the convolutions of ``model`` in place."""
    for node in list(model.graph):
        if node.op_type == "Conv" and node.domain == "":
            _chomp(model.graph, node)
            _give_bias(model.graph, node)


def _give_bias(graph: ir.Graph, node: ir.Node) -> None:
    weight = constant(node.inputs[1])
    if weight is None or weight.dtype != np.float32:
        return
    if len(node.inputs) < 3 or node.inputs[2] is None:
        name = str(node.inputs[1].name).removesuffix(".weight")  # type: ignore[union-attr]
        own(graph, node, 2, np.zeros(weight.shape[0], np.float32), f"{name}.bias")


def _chomp(graph: ir.Graph, node: ir.Node) -> None:
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output() or uses[0].node.op_type != "Slice":
        return
    cut = _cut_at_end(uses[0].node)
    pads = list(node.attributes.get_ints("pads") or ())
    weight = constant(node.inputs[1])
    strides = node.attributes.get_ints("strides") or ()
    if cut is None or weight is None or any(stride != 1 for stride in strides):
        return
    axis, steps = cut
    spatial = weight.ndim - 2
    end = axis - 2 + spatial  # pads holds all begins, then all ends
    if not pads or axis < 2 or uses[0].node.graph is not graph or pads[end] < steps:
        return
    pads[end] -= steps
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    remove(graph, uses[0].node, node.outputs[0])


def _cut_at_end(node: ir.Node) -> tuple[int, int] | None:
    """Returns (axis, steps) of Slice(x, 0, -steps, axis, 1), None for any other."""
    numbers = [constant(value) for value in node.inputs[1:]]
    if len(numbers) < 3 or any(number is None or number.size != 1 for number in numbers):
        return None
    start, end, axis, *step = (int(number.reshape(-1)[0]) for number in numbers)  # type: ignore[union-attr]
    return (axis, -end) if start == 0 and end < 0 and step in ([], [1]) else None
