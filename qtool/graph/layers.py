"""The layers that can be quantized: what each reads, and which methods its runtime kernels allow.

A layer is a node with constant weights (or a product of two activations) for which ONNX Runtime
has an integer kernel, or whose weights can at least be stored as int8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant
from qtool.graph.plan import Treatment
from qtool.graph.prepare.dense import bias_add, is_dense, is_dense_product

Kind = Literal["dense", "conv", "product", "lstm", "gru", "table"]

METHODS: dict[Kind, dict[Treatment, str]] = {
    "dense": {
        "static": "integer GEMM with calibrated ranges",
        "dynamic": "integer GEMM, activation range from each batch",
        "weight_only": "weights of a few bits, one scale per block, unpacked inside the GEMM",
        "storage": "stored as int8, computed in float",
    },
    "conv": {
        "static": "integer convolution with calibrated ranges",
        "storage": "stored as int8, computed in float",
    },
    "product": {"static": "integer product of two activations"},
    "lstm": {
        "dynamic": "integer LSTM, ranges from each step",
        "storage": "stored as int8, computed in float",
    },
    "gru": {"storage": "stored as int8, computed in float"},
    "table": {"storage": "stored as int8, looked up in float"},
}
"""Kind of layer → method → what it becomes."""

WHY_NOT: dict[tuple[Kind, Treatment], str] = {
    ("conv", "dynamic"): "ConvInteger is 3 to 8 times slower than FP32",
    ("conv", "weight_only"): "no weight-only kernel for convolutions",
    ("product", "dynamic"): "no dynamic kernel for a product of two activations",
    ("product", "weight_only"): "has no weight",
    ("product", "storage"): "has no weight",
    ("lstm", "static"): "the runtime's integer LSTM is dynamic",
    ("lstm", "weight_only"): "no weight-only kernel for LSTM",
    ("gru", "static"): "the runtime has no integer GRU",
    ("gru", "dynamic"): "the runtime has no integer GRU",
    ("gru", "weight_only"): "no weight-only kernel for GRU",
    ("table", "static"): "a lookup computes nothing",
    ("table", "dynamic"): "a lookup computes nothing",
    ("table", "weight_only"): "a lookup computes nothing",
}

LOOKED_UP_FROM_BYTES = 4 << 20
"""A table of at least so many bytes in float32 stays int8 in memory and is dequantized after the
lookup, which costs two nodes (measured: 0.5 us a table); smaller ones are unpacked at load."""
LSTM_ATTRIBUTES = frozenset({"hidden_size", "direction", "input_forget", "activations"})
DEFAULT_LSTM_ACTIVATIONS = ("Sigmoid", "Tanh", "Tanh")


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of a prepared graph.

    Attributes:
        node: the node that computes it.
        kind: which kind.
        inputs: indices of the activations that an integer kernel reads as codes.
        weights: indices of the constants that are quantized.
        bias: the constant vector that is added, where the integer kernel takes it.
        add: the Add node that adds the bias of a MatMul, and becomes part of the layer.
    """

    node: ir.Node
    kind: Kind
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    bias: ir.Value | None = None
    add: ir.Node | None = None

    @property
    def output(self) -> ir.Value:
        """What the layer computes."""
        return (self.add or self.node).outputs[0]

    def weight(self) -> ir.Value:
        """The first constant."""
        return value_at(self.node, self.weights[0])


def layers_of(model: ir.Model) -> dict[ir.Node, Layer]:
    """Returns the layers of a prepared graph by their nodes, in its order."""
    return {node: layer for node in model.graph if (layer := layer_of(node)) is not None}


def layer_of(node: ir.Node) -> Layer | None:
    """Returns the layer that ``node`` is, None when there is nothing to quantize in it."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Gemm" and is_dense(node) and _is_float(node.inputs[0]):
        return Layer(node, "dense", (0,), (1,), node.inputs[2])
    if node.op_type == "MatMul":
        return _matmul(node)
    if node.op_type == "Conv" and _is_conv(node):
        return Layer(node, "conv", (0,), (1,), node.inputs[2])
    if node.op_type in ("LSTM", "GRU") and _has_float_weights(node):
        kind: Kind = "lstm" if node.op_type == "LSTM" else "gru"
        return Layer(node, kind, (0,), (1, 2))
    if node.op_type == "Gather" and _is_table_lookup(node):
        return Layer(node, "table", (), (0,))
    return None


def why_not(layer: Layer, method: Treatment) -> str | None:
    """Returns why ``layer`` cannot have ``method``, None when it can."""
    if method not in METHODS[layer.kind]:
        return WHY_NOT[layer.kind, method]
    if layer.kind == "lstm" and method == "dynamic":
        return _why_no_dynamic_lstm(layer.node)
    return None


def stays_packed(layer: Layer) -> bool:
    """Whether a stored table is int8 in memory too."""
    table = layer.weight().const_value
    return layer.kind == "table" and table is not None and 4 * table.size >= LOOKED_UP_FROM_BYTES


def reason_of(layer: Layer, method: Treatment) -> str:
    """Returns what ``method`` makes of ``layer``."""
    if stays_packed(layer):
        return "int8 table, dequantized after the lookup"
    return METHODS[layer.kind][method]


def value_at(node: ir.Node, index: int) -> ir.Value:
    """Returns an input that is known to be there."""
    value = node.inputs[index]
    assert value is not None
    return value


def name_of(value: ir.Value | None) -> str:
    """Returns the name of a value that is known to be there."""
    assert value is not None
    return str(value.name)


def _matmul(node: ir.Node) -> Layer | None:
    if is_dense_product(node):
        add = bias_add(node)
        bias = None if add is None else add.inputs[1]
        return Layer(node, "dense", (0,), (1,), bias, add)
    both = all(_is_float(value) and constant(value) is None for value in node.inputs)
    return Layer(node, "product", (0, 1), ()) if both else None


def _is_conv(node: ir.Node) -> bool:
    weight = constant(node.inputs[1])
    if weight is None or weight.dtype != np.float32 or weight.ndim not in (3, 4):
        return False
    return len(node.inputs) == 3 and constant(node.inputs[2]) is not None


def _has_float_weights(node: ir.Node) -> bool:
    arrays = [constant(value) for value in node.inputs[1:3]]
    return all(array is not None and array.dtype == np.float32 for array in arrays)


def _is_table_lookup(node: ir.Node) -> bool:
    table: NDArray[np.generic] | None = constant(node.inputs[0])
    if table is None or table.dtype != np.float32 or table.ndim != 2:
        return False
    if node.outputs[0].is_graph_output():  # which must stay float32
        return False
    return node.attributes.get_int("axis", 0) == 0


def _why_no_dynamic_lstm(node: ir.Node) -> str | None:
    """DynamicQuantizeLSTM (ONNX Runtime 1.31 contrib operator) has fewer options than LSTM."""
    extra = sorted(set(node.attributes) - LSTM_ATTRIBUTES - {"layout"})
    extra += [name for name in ("input_forget", "layout") if node.attributes.get_int(name, 0)]
    if extra:
        return f"the integer LSTM has no {', '.join(extra)}"
    activations = node.attributes.get_strings("activations", DEFAULT_LSTM_ACTIVATIONS) or ()
    if tuple(activations) not in (
        DEFAULT_LSTM_ACTIVATIONS,
        DEFAULT_LSTM_ACTIVATIONS * 2,
    ):
        return "the integer LSTM has the standard activations only"
    if len(node.inputs) > 7 and node.inputs[7] is not None:
        return "the integer LSTM has no peepholes"
    return None


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT
