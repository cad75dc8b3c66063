"""Which constants of a graph training changes: those that hold what a network learned.

1. The weights of operators that have some: ``TRAINABLE_INPUTS``.
2. The bias of a layer: the other operand of an Add or Sum behind a product with a weight.
3. A positional or token table: a constant with two or more axes that are longer than one, added to
   the output of a layer, also where bias, reordering or a scalar factor lie between.
4. A feature tokenizer: a constant whose product with an activation has more elements than the
   activation (one vector per column), and the vectors added to that product.
5. Gain and bias behind a normalization that is written as arithmetic (a mean under a root).
6. A learned token: a constant that is expanded over the batch and joined to activations.

Everything else stays as it is, above all the mean and deviation of a scaler inside the graph, the
statistics of batch normalization, masks that are added to attention scores (a product of two
activations is no layer), sine and cosine factors. Not training a constant costs little in
fine-tuning; training one that has a meaning changes the model.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant

TRAINABLE_INPUTS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Einsum": (0, 1),
    "GRU": (1, 2, 3),
    "Gather": (0,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "RNN": (1, 2, 3),
}
"""Operator → the inputs that hold what training changes, when they are float32 initializers."""

BIASED = frozenset({"Conv", "ConvTranspose", "Einsum", "MatMul"})
"""Layers whose bias may be an Add of its own."""
STATISTICS = slice(3, 5)
"""The inputs of BatchNormalization that training does not change: mean and variance."""
TABLE_AXES = 2
"""Axes longer than one that a constant needs to be a table, not a bias or a factor."""
MOVES = frozenset(
    {"Dropout", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that keep the values of their first input."""


def trainable_initializers(graph: ir.Graph, fixed: Collection[ir.Value] = ()) -> set[str]:
    """Returns the names of the float32 initializers that training changes; see the module.

    Args:
        graph: a prepared graph.
        fixed: values that are not trained, whatever reads them.
    """
    found = _Trained()
    for node in graph:
        found.visit(node)
    # A zero bias and a zero mean may be one constant, in models that were not trained yet.
    statistics = {
        value
        for node in graph
        if node.op_type == "BatchNormalization"
        for value in node.inputs[STATISTICS]
    }
    return {str(value.name) for value in found.trained - statistics - set(fixed)}


class _Trained:
    """What is known of the values of a graph while its nodes are visited in order."""

    def __init__(self) -> None:
        self.trained: set[ir.Value] = set()
        self.products: set[ir.Value] = set()  # of an activation and a weight: an Add is the bias
        self.layers: set[ir.Value] = set()  # outputs of layers, also moved, biased or scaled
        self.means: set[ir.Value] = set()
        self.roots: set[ir.Value] = set()  # of means: what a normalization divides by
        self.normalized: set[ir.Value] = set()
        self.moved: dict[ir.Value, ir.Value] = {}  # a moved constant, and the constant

    def visit(self, node: ir.Node) -> None:
        positions = TRAINABLE_INPUTS.get(node.op_type, ())
        for position in positions:
            if position < len(node.inputs):
                self._train(node.inputs[position])
        if any(value in self.trained for value in node.inputs):
            self.layers.update(node.outputs)
            if node.op_type in BIASED:
                self.products.update(node.outputs)
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type in MOVES:
            self._move(inputs[0], node.outputs[0])
        elif node.op_type in ("Add", "Sum", "Mul"):
            self._arithmetic(node, inputs)
        elif node.op_type == "Concat" and self.layers.intersection(inputs):
            for value in inputs:
                self._train(self.moved.get(value))
        self._normalization(node, inputs)

    def _train(self, value: ir.Value | None) -> None:
        if value is not None and _weight(value) is not None:
            self.trained.add(value)

    def _move(self, source: ir.Value, target: ir.Value) -> None:
        for known in (self.layers, self.normalized):
            if source in known:
                known.add(target)
        if source in self.moved or _weight(source) is not None:
            self.moved[target] = self.moved.get(source, source)

    def _arithmetic(self, node: ir.Node, inputs: list[ir.Value]) -> None:
        constants = {value: self.moved.get(value, value) for value in inputs}
        arrays = {value: _weight(source) for value, source in constants.items()}
        others = [value for value, array in arrays.items() if array is None]
        for value, array in arrays.items():
            if array is None:
                continue
            if node.op_type == "Mul":
                learned = any(_enlarges(array, other) for other in others)
            else:
                table = sum(size > 1 for size in array.shape) >= TABLE_AXES
                layers = self.layers if table else self.products
                learned = bool(layers.intersection(others))
            if learned or (array.size > 1 and self.normalized.intersection(others)):
                self._train(constants[value])
        scalars = all(array is None or array.size == 1 for array in arrays.values())
        kept = node.op_type != "Mul" or scalars
        trained = self.trained.intersection(constants.values())
        if trained or (kept and self.layers.intersection(others)):
            self.layers.update(node.outputs)
        if self.normalized.intersection(others) and trained:
            self.normalized.update(node.outputs)

    def _normalization(self, node: ir.Node, inputs: list[ir.Value]) -> None:
        target = None
        match node.op_type:
            case "ReduceMean":
                target = self.means
            case "Add" if self.means.intersection(inputs):
                target = self.means
            case "Sqrt" | "Pow" if inputs[0] in self.means:
                target = self.roots
            case "Reciprocal" if inputs[0] in self.roots:
                target = self.roots
            case "Div" | "Mul" if self.roots.intersection(inputs):
                target = self.normalized
            case "InstanceNormalization":
                target = self.normalized
        if target is not None:
            target.add(node.outputs[0])


def _weight(value: ir.Value) -> NDArray[np.generic] | None:
    array = constant(value)
    return array if array is not None and array.dtype == np.float32 else None


def _enlarges(array: NDArray[np.generic], other: ir.Value) -> bool:
    """Returns whether ``array * other`` repeats ``other`` along an axis of length one."""
    if other.shape is None or sum(size > 1 for size in array.shape) < TABLE_AXES:
        return False
    aligned = zip(array.shape[::-1], tuple(other.shape)[::-1], strict=False)
    return any(size > 1 and length == 1 for size, length in aligned)
