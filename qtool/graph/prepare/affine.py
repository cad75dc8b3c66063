"""Makes what multiplies and adds per channel part of the layer in front of it.

y = s * layer(x) + t, with one s and t per output channel, is the layer with weight s * W and bias
s * b + t:

1. BatchNormalization after Gemm or Conv: s = scale / sqrt(variance + epsilon), t = B - mean * s
   (ONNX operator specification, BatchNormalization-15, inference).
2. Mul or Add of a constant that is the same for all rows and positions.

It works on layers as ``dense`` and ``conv`` leave them. A layer whose output is also read elsewhere
stays as it is. onnxscript folds batch normalization too, but not behind a MatMul, and not where
torch 2.13 made one constant of two equal ones.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant
from qtool.graph.prepare.dense import is_dense
from qtool.graph.prepare.ownership import own
from qtool.graph.prepare.removal import remove

Floats = NDArray[np.float64]
CHANNELS = 1
"""Axis of the channels in the output of Gemm and Conv."""


def affine(model: ir.Model) -> None:
    """Folds the per-channel affine nodes of ``model`` in place."""
    for node in list(model.graph):
        if node.domain != "" or node.op_type not in ("Add", "BatchNormalization", "Mul"):
            continue
        x = next((value for value in node.inputs if constant(value) is None), None)
        layer = None if x is None else _layer(x)
        numbers = None if layer is None else _scale_and_shift(node, layer)
        if x is None or layer is None or numbers is None:
            continue
        _scale(model.graph, layer, *numbers)
        remove(model.graph, node, x)


def _layer(x: ir.Value) -> ir.Node | None:
    """Returns the canonical Gemm or Conv that makes ``x`` for one reader."""
    node = x.producer()
    if node is None or len(x.uses()) != 1 or x.is_graph_output():
        return None
    if next(iter(x.uses())).node.graph is not node.graph:
        return None
    if not is_dense(node) and (node.op_type != "Conv" or node.domain != ""):
        return None
    constants = [constant(value) for value in node.inputs[1:]]
    both = [array for array in constants if array is not None and array.dtype == np.float32]
    return node if len(both) == 2 and not node.attributes.get_int("transB", 0) else None


def _scale_and_shift(node: ir.Node, layer: ir.Node) -> tuple[Floats, Floats] | None:
    weight, bias = constant(layer.inputs[1]), constant(layer.inputs[2])
    assert weight is not None
    assert bias is not None
    ones, zeros = np.ones(bias.size), np.zeros(bias.size)
    if node.op_type == "BatchNormalization":
        return _batch_norm(node)
    other = next((array for array in map(constant, node.inputs) if array is not None), None)
    if other is None or other.dtype != np.float32 or other.ndim > weight.ndim:
        return None
    shape = [1] * (weight.ndim - other.ndim) + list(other.shape)
    if shape.pop(CHANNELS) not in (1, bias.size) or any(size != 1 for size in shape):
        return None
    numbers = np.broadcast_to(other.astype(np.float64).reshape(-1), bias.shape)
    return (numbers, zeros) if node.op_type == "Mul" else (ones, numbers)


def _batch_norm(node: ir.Node) -> tuple[Floats, Floats] | None:
    constants = [constant(value) for value in node.inputs[1:]]
    if node.attributes.get_int("training_mode", 0) or any(o.uses() for o in node.outputs[1:]):
        return None
    if any(array is None for array in constants):
        return None
    scale, shift, mean, variance = (np.asarray(array, np.float64) for array in constants)
    factor = scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return factor, shift - mean * factor


def _scale(graph: ir.Graph, layer: ir.Node, scale: Floats, shift: Floats) -> None:
    weight, bias = constant(layer.inputs[1]), constant(layer.inputs[2])
    assert weight is not None
    assert bias is not None
    outputs = -1 if layer.op_type == "Gemm" else 0
    along = [1] * weight.ndim
    along[outputs] = -1
    names = [str(value.name) for value in layer.inputs[1:] if value is not None]
    own(graph, layer, 1, _float32(weight, scale.reshape(along)), names[0])
    own(graph, layer, 2, _float32(bias, scale, shift), names[1])


def _float32(
    array: NDArray[np.generic], scale: Floats, shift: Floats | float = 0.0
) -> NDArray[np.float32]:
    return (array.astype(np.float64) * scale + shift).astype(np.float32)
