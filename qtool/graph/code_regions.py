"""Which nodes between integer layers work on codes.

An integer convolution can leave nothing but codes, so what follows it stays on codes as far as
kernels for codes go:

1. A Relu (or Clip from zero) that is the only reader of a static Conv or Add is folded into the
   requantization: the range of its output starts at zero. So is a Relu behind a static Gemm, where
   only static layers read it.
2. Moving nodes, Pad with zeros and MaxPool need no arithmetic on codes; their output shares scale
   and zero point with their input.
3. Add, Concat, LeakyRelu, Sigmoid and average pools have kernels on codes (QLinearAdd …). An
   input that only a Concat reads shares its scale, which turns the Concat into a copy.
   One of the inputs may be a value that is quantized beside its float form.
4. An Add of what static Gemms leave, which only dense layers and other such Adds read (the
   residual of an MLP), works on codes too: without a normalization nothing needs floats.
5. An operand of a static product is quantized before the nodes that only move it, which then move
   a quarter of the bytes.
6. Anything else ends the region and reads dequantized values.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qtool.graph.layers import Layer, value_at
from qtool.graph.model_file import constant

MOVES = frozenset(
    {
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
ON_CODES = {
    "Add": "integer addition on codes",
    "AveragePool": "integer average on codes",
    "Concat": "joins codes",
    "GlobalAveragePool": "integer average on codes",
    "LeakyRelu": "table lookup on codes",
    "Sigmoid": "table lookup on codes",
}
FOLDED = "folded into the requantization of its input"


@dataclass
class Codes:
    """What lies on codes: values in graph order with what they share, and nodes with reasons.

    Attributes:
        values: names of the quantized values.
        shares: value → the value whose scale and zero point it has.
        nodes: node that works on codes → why.
        weight_like: values that are the second operand of a product, as a weight would be.
    """

    values: list[str] = field(default_factory=list)
    shares: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    weight_like: set[str] = field(default_factory=set)


def find_codes(
    model: ir.Model, static: Mapping[ir.Node, Layer], ruled_out: Collection[str]
) -> Codes:
    """Returns what lies on codes around the ``static`` layers; ``ruled_out`` nodes stay float."""
    finder = _Finder(static, ruled_out)
    finder.find_residuals(model)
    for node in model.graph:
        if node in static:
            finder.layer(static[node])
        elif node.name not in ruled_out:
            finder.follow(node)
    return finder.codes


def moves_codes(node: ir.Node) -> bool:
    """Whether ``node`` gives codes for codes with the same operator and no arithmetic."""
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1  # the second one has positions
    return node.op_type in MOVES - {"Concat"} or node.op_type == "Pad"


class _Finder:
    """One walk over the graph."""

    def __init__(self, static: Mapping[ir.Node, Layer], ruled_out: Collection[str]) -> None:
        self.static, self.ruled_out = static, ruled_out
        self.codes = Codes()
        self.planned: set[ir.Value] = set()
        self.only_codes: set[ir.Value] = set()
        self.residuals: set[ir.Node] = set()

    def find_residuals(self, model: ir.Model) -> None:
        """Finds the Adds of rule 4: all candidates, less those that another one rules out."""
        self.residuals = {
            node
            for node in model.graph
            if node.op_type == "Add"
            and node.name not in self.ruled_out
            and any(self._is_static_gemm(value) for value in node.inputs)
        }
        while True:
            kept = {node for node in self.residuals if self._stays_on_codes(node)}
            if kept == self.residuals:
                return
            self.residuals = kept

    def _stays_on_codes(self, node: ir.Node) -> bool:
        relu = self._folded_relu(node)
        output = node.outputs[0] if relu is None else relu.outputs[0]
        return self._only_dense(output) and all(self._can_be_codes(x) for x in node.inputs)

    def _can_be_codes(self, value: ir.Value | None) -> bool:
        """A static Gemm's output that nobody else reads, or a residual or folded Relu."""
        producer = None if value is None else value.producer()
        if value is None or producer is None or not self._only_dense(value):
            return False
        if producer.op_type == "Relu" and producer.name not in self.ruled_out:
            before = value_at(producer, 0)
            return self._is_static_gemm(before) or before.producer() in self.residuals
        return self._is_static_gemm(value) or producer in self.residuals

    def _only_dense(self, value: ir.Value) -> bool:
        uses = list(value.uses())
        if not uses or value.is_graph_output():
            return False
        return all(
            use.node in self.residuals
            or (use.node.op_type == "Gemm" and use.idx == 0 and use.node.name not in self.ruled_out)
            for use in uses
        )

    def _is_static_gemm(self, value: ir.Value | None) -> bool:
        producer = None if value is None else value.producer()
        if value is None or producer is None or producer not in self.static:
            return False
        if producer.op_type != "Gemm":
            return False
        return len(value.uses()) == 1 and not value.is_graph_output()

    def layer(self, layer: Layer) -> None:
        """Plans what a static layer reads, and what a convolution leaves."""
        for index in layer.inputs:
            value = value_at(layer.node, index)
            if layer.kind == "product":
                self._operand(value, weight_like=index == 1)
            else:
                self._plan(value)
        if layer.kind == "conv":
            self._leave(layer.node)

    def follow(self, node: ir.Node) -> None:
        """Plans the output of ``node`` if it works on the codes that it reads."""
        producer = node.inputs[0].producer() if node.inputs and node.inputs[0] else None
        if producer is not None and _clamps_from_zero(node) and self._folds(producer, node):
            self.codes.nodes[str(node.name)] = FOLDED
        elif moves_codes(node) and node.inputs[0] in self.only_codes and _can_move(node):
            self._move(node)
        elif node in self.residuals or (node.op_type in ON_CODES and self._on_codes(node)):
            for value in node.inputs:
                assert value is not None
                self._plan(value)  # what a Gemm leaves for a residual is not planned yet
            self.codes.nodes[str(node.name)] = ON_CODES[node.op_type]
            self._leave(node)
            if node.op_type == "Concat":
                self._share_with_concat(node)

    def _folds(self, producer: ir.Node, relu: ir.Node) -> bool:
        if self._folded_relu(producer) is relu:
            return relu.outputs[0] in self.only_codes
        dense = producer in self.static and producer.op_type == "Gemm" and relu.op_type == "Relu"
        return dense and self._only_static(relu.outputs[0])

    def _operand(self, value: ir.Value, *, weight_like: bool) -> None:
        """Plans an operand of a product, by rule 5."""
        chain: list[ir.Node] = []
        source = value
        while source not in self.planned and not source.is_graph_output():
            producer = source.producer()
            if producer is None or not moves_codes(producer) or len(source.uses()) != 1:
                break
            if producer.inputs[0] is None or len(producer.outputs) != 1:
                break
            if producer.inputs[0].const_value is not None:
                break  # a table, which is stored
            if len(producer.inputs[0].uses()) != 1 or producer.name in self.ruled_out:
                break
            chain.append(producer)
            source = producer.inputs[0]
        only_here = source not in self.planned and len(source.uses()) == 1
        self._plan(source)
        for node in reversed(chain):
            self._move(node)
        # Other kernels want activations, not what looks like a weight.
        if weight_like and only_here and not source.is_graph_output():
            self.codes.weight_like.add(str(source.name))
            self.codes.weight_like.update(str(node.outputs[0].name) for node in chain)

    def _move(self, node: ir.Node) -> None:
        self.codes.nodes[str(node.name)] = "moves codes"
        for output in node.outputs:
            self._plan(output, shares=value_at(node, 0))
            self.only_codes.add(output)

    def _leave(self, node: ir.Node) -> None:
        """Plans the codes that ``node`` leaves, behind the Relu that is folded into it."""
        relu = self._folded_relu(node)
        output = node.outputs[0] if relu is None else relu.outputs[0]
        self._plan(output)
        self.only_codes.add(output)

    def _plan(self, value: ir.Value, shares: ir.Value | None = None) -> None:
        if value in self.planned:
            return
        self.planned.add(value)
        self.codes.values.append(str(value.name))
        if shares is not None:
            self.codes.shares[str(value.name)] = str(shares.name)

    def _folded_relu(self, node: ir.Node) -> ir.Node | None:
        """The Relu that is the only reader of the Conv or Add ``node``."""
        uses = list(node.outputs[0].uses())
        if node.op_type not in ("Conv", "Add") or len(uses) != 1:
            return None
        reader = uses[0].node
        if node.outputs[0].is_graph_output() or not _clamps_from_zero(reader):
            return None
        return None if reader.name in self.ruled_out else reader

    def _only_static(self, value: ir.Value) -> bool:
        uses = list(value.uses())
        if not uses or value.is_graph_output():
            return False
        return all(
            use.node in self.residuals
            or (use.node in self.static and use.idx in self.static[use.node].inputs)
            for use in uses
        )

    def _is_folded_output(self, value: ir.Value) -> bool:
        producer = value.producer()
        return producer is not None and self.codes.nodes.get(str(producer.name)) == FOLDED

    def _on_codes(self, node: ir.Node) -> bool:
        known = all(value in self.planned for value in node.inputs)
        return known and any(value in self.only_codes for value in node.inputs)

    def _share_with_concat(self, node: ir.Node) -> None:
        # A Clip is folded by a scale that ends where it does.
        parts = [value for value in node.inputs if value is not None and not _is_clipped(value)]
        folded = [self._is_folded_output(value) for value in parts]
        # A scale that also covers negative values would keep a Relu from being folded.
        for value in parts if all(folded) or not any(folded) else ():
            name = str(value.name)
            owner = name not in self.codes.shares and name not in self.codes.shares.values()
            if owner and value in self.only_codes and len(value.uses()) == 1:
                self.codes.shares[name] = str(node.outputs[0].name)


def _clamps_from_zero(node: ir.Node) -> bool:
    """Relu, or a Clip from 0 to a positive constant: what a range that starts at zero does."""
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip" or len(node.inputs) != 3:
        return False
    low, high = constant(node.inputs[1]), constant(node.inputs[2])
    return low is not None and high is not None and float(low) == 0 and float(high) > 0


def _is_clipped(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Clip"


def _can_move(node: ir.Node) -> bool:
    """Not at the end of the graph, where float32 is wanted, and Pad with zeros only."""
    if any(value.is_graph_output() for value in node.outputs):
        return False
    if node.op_type != "Pad":
        return True
    given = node.inputs[2] if len(node.inputs) > 2 else None
    value = constant(given)
    zeros = given is None or (value is not None and not np.any(value))
    return node.attributes.get_string("mode", "constant") == "constant" and zeros
