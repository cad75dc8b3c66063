"""Brings every dense layer into one form: Gemm(x, W of shape (K, N), bias of shape (N,)).

1. MatMul(x, W) with a constant 2-D W and x of rank 2 becomes Gemm; a following Add of a constant
   vector becomes its bias.
2. Gemm attributes transB, alpha and beta are folded into the constants.
3. A missing bias becomes zeros; a bias of shape (1, N), (1,) or () is spread to (N,).
4. Each Gemm owns its constants: an initializer that several places share is copied, or else two
   layers would be quantized, and trained, as one.

The runtime fuses exactly this form with the Q/DQ nodes around it (ONNX Runtime 1.31, QDQ Gemm
selector); a float Add after a MatMul stays a separate node there.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant


def gemm(model: ir.Model) -> None:
    """Rewrites the dense layers of ``model`` in place."""
    for node in list(model.graph):
        if node.op_type == "MatMul" and node.domain == "":
            _from_matmul(model.graph, node)
    for node in model.graph:
        if is_dense(node):
            _canonical(model.graph, node)


def is_dense(node: ir.Node) -> bool:
    """A Gemm with a constant float32 weight and an input that is not transposed."""
    if node.op_type != "Gemm" or node.domain != "" or node.attributes.get_int("transA"):
        return False
    weight = constant(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or node.inputs[0] is None:
        return False
    if constant(node.inputs[0]) is not None:
        return False
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    outputs = weight.shape[0 if node.attributes.get_int("transB", 0) else 1]
    return _is_bias(constant(node.inputs[2]), outputs)


def _is_bias(array: NDArray[np.generic] | None, outputs: int) -> bool:
    """A constant that adds the same numbers to every row: (), (1,), (N,), (1, 1) or (1, N)."""
    if array is None or array.ndim > 2 or array.shape[:-1] not in ((), (1,)):
        return False
    return array.size in (1, outputs)


def _from_matmul(graph: ir.Graph, node: ir.Node) -> None:
    x, weight = node.inputs[0], constant(node.inputs[1])
    if x is None or x.shape is None or len(x.shape) != 2 or weight is None or weight.ndim != 2:
        return
    inputs, replaced = [x, node.inputs[1]], [node]
    uses = list(node.outputs[0].uses())
    if len(uses) == 1 and not node.outputs[0].is_graph_output():
        following, position = uses[0]
        other = following.inputs[1 - position] if following.op_type == "Add" else None
        if _is_bias(constant(other), weight.shape[1]):
            inputs.append(other)
            replaced.append(following)
    dense = ir.node("Gemm", inputs, name=node.name)
    ir.convenience.replace_nodes_and_values(
        graph, replaced[-1], replaced, [dense], [replaced[-1].outputs[0]], [dense.outputs[0]]
    )


def _canonical(graph: ir.Graph, node: ir.Node) -> None:
    weight = _float_constant(node.inputs[1])
    if node.attributes.get_int("transB", 0):
        weight = weight.T
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = np.zeros(1, np.float32) if bias_value is None else _float_constant(bias_value)
    weight = np.ascontiguousarray(weight * np.float32(alpha), np.float32)
    bias = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (weight.shape[1],))
    name = node.inputs[1].name if node.inputs[1] is not None else "weight"
    bias_name = (
        str(bias_value.name)
        if bias_value is not None
        else f"{str(name).removesuffix('.weight')}.bias"
    )
    _own(graph, node, 1, weight, str(name))
    _own(graph, node, 2, np.ascontiguousarray(bias, np.float32), bias_name)
    node.attributes.clear()


def _float_constant(value: ir.Value | None) -> NDArray[np.float32]:
    array = constant(value)
    assert array is not None
    return array.astype(np.float32)


def _own(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[np.float32], name: str) -> None:
    """Makes ``array`` the node's own initializer, under ``name`` if no other node uses that."""
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    previous = node.inputs[index]
    node.replace_input_with(index, None)
    if previous is not None and not previous.uses() and previous.name in graph.initializers:
        graph.initializers.pop(str(previous.name))
    unique, suffix = name, 1
    while unique in graph.initializers:
        unique, suffix = f"{name}_{suffix}", suffix + 1
    value = ir.val(unique, const_value=ir.tensor(array, name=unique))
    graph.register_initializer(value)
    node.replace_input_with(index, value)
