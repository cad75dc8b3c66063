"""Brings every dense layer into one of two forms, by the rank of its input.

Rank 2: Gemm(x, W of shape (K, N), bias of shape (N,)); any other rank: MatMul(x, W), and where
there is a bias Add(product, bias of shape (N,)).

1. MatMul(x, W) with a constant 2-D W and x of rank 2 becomes Gemm; a following Add of a constant
   vector becomes its bias.
2. Gemm attributes transB, alpha and beta are folded into the constants.
3. A missing bias of a Gemm becomes zeros; a bias of shape (1, N), (1,), () or (1, .., 1, N) is
   spread to (N,) and comes second in its Add.
4. MatMul(x, Transpose(W)) gets the transposed constant, also where W is an embedding table too
   (tied weights): a table is read by rows and a layer multiplied, so they are quantized apart.
5. Each layer owns its constants: an initializer that several places share is copied, so that each
   place has scales and an int32 bias of its own.

The runtime fuses exactly this Gemm with the Q/DQ nodes around it (ONNX Runtime 1.31, QDQ Gemm
selector); a float Add after a MatMul would stay a separate node, so the writer puts both into one
operator itself.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant
from qtool.graph.prepare.ownership import own


def dense(model: ir.Model) -> None:
    """Rewrites the dense layers of ``model`` in place."""
    for node in list(model.graph):
        if node.op_type == "MatMul" and node.domain == "":
            _fold_transposed(model.graph, node)
        if is_dense_product(node):
            _from_matmul(model.graph, node)
    for node in list(model.graph):
        if is_dense(node):
            _canonical(model.graph, node)
        elif is_dense_product(node):
            _canonical_product(model.graph, node)


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


def is_dense_product(node: ir.Node) -> bool:
    """A MatMul of an activation with a constant float32 matrix."""
    if node.op_type != "MatMul" or node.domain != "":
        return False
    weight = constant(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or weight.ndim != 2:
        return False
    return node.inputs[0] is not None and constant(node.inputs[0]) is None


def bias_add(node: ir.Node) -> ir.Node | None:
    """Returns the Add of a bias vector that is the only reader of the MatMul ``node``."""
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output() or uses[0].node.op_type != "Add":
        return None
    add, position = uses[0]
    if add.graph is not node.graph:
        return None
    weight, bias = constant(node.inputs[1]), constant(add.inputs[1 - position])
    assert weight is not None
    x = node.inputs[0]
    rank = 1 if x is None or x.shape is None else len(x.shape)
    if bias is None or bias.ndim > rank:  # it would give the sum more axes
        return None
    return add if _is_bias(bias, weight.shape[1]) else None


def _is_bias(array: NDArray[np.generic] | None, outputs: int) -> bool:
    """A constant that adds the same numbers to every row: (), (1,), (N,), or 1s in front of N."""
    if array is None or array.dtype != np.float32 or any(size != 1 for size in array.shape[:-1]):
        return False
    return array.size in (1, outputs)


def _fold_transposed(graph: ir.Graph, node: ir.Node) -> None:
    transpose = node.inputs[1].producer() if node.inputs[1] is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return
    table = constant(transpose.inputs[0])
    if table is None or table.ndim != 2 or table.dtype != np.float32:
        return
    if tuple(transpose.attributes.get_ints("perm") or (1, 0)) == (1, 0):
        name = f"{transpose.inputs[0].name}.transposed"  # type: ignore[union-attr]
        own(graph, node, 1, np.ascontiguousarray(table.T, np.float32), name)


def _from_matmul(graph: ir.Graph, node: ir.Node) -> None:
    x = node.inputs[0]
    if x is None or x.shape is None or len(x.shape) != 2:
        return
    inputs, replaced = [x, node.inputs[1]], [node]
    add = bias_add(node)
    if add is not None:
        inputs.append(add.inputs[1 if add.inputs[0] is node.outputs[0] else 0])
        replaced.append(add)
    gemm = ir.node("Gemm", inputs, name=node.name)
    ir.convenience.replace_nodes_and_values(
        graph, replaced[-1], replaced, [gemm], [replaced[-1].outputs[0]], [gemm.outputs[0]]
    )


def _canonical_product(graph: ir.Graph, node: ir.Node) -> None:
    weight, add = _float_constant(node.inputs[1]), bias_add(node)
    name = str(node.inputs[1].name) if node.inputs[1] is not None else "weight"
    own(graph, node, 1, np.ascontiguousarray(weight), name)
    if add is None:
        return
    position = 1 if add.inputs[0] is node.outputs[0] else 0
    bias = _float_constant(add.inputs[position]).reshape(-1)
    name = str(add.inputs[position].name)  # type: ignore[union-attr]
    if position == 0:
        add.replace_input_with(0, node.outputs[0])
    own(graph, add, 1, np.ascontiguousarray(np.broadcast_to(bias, weight.shape[1:])), name)


def _canonical(graph: ir.Graph, node: ir.Node) -> None:
    weight = _float_constant(node.inputs[1])
    if node.attributes.get_int("transB", 0):
        weight = weight.T
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    bias = np.zeros(1, np.float32) if bias_value is None else _float_constant(bias_value)
    if alpha != 1.0:  # else a weight that is memory-mapped stays so
        weight = weight * np.float32(alpha)
    weight = np.ascontiguousarray(weight, np.float32)
    bias = np.broadcast_to(bias.reshape(-1) * np.float32(beta), (weight.shape[1],))
    name = node.inputs[1].name if node.inputs[1] is not None else "weight"
    bias_name = (
        str(bias_value.name)
        if bias_value is not None
        else f"{str(name).removesuffix('.weight')}.bias"
    )
    own(graph, node, 1, weight, str(name))
    own(graph, node, 2, np.ascontiguousarray(bias, np.float32), bias_name)
    node.attributes.clear()


def _float_constant(value: ir.Value | None) -> NDArray[np.float32]:
    array = constant(value)
    assert array is not None
    return array.astype(np.float32, copy=False)
