"""Which constants of a graph hold the units of its layers: what goes when a unit goes.

A unit is an output of a dense layer or an output channel of a convolution. Its number is followed
down the graph, along one axis of every value:

1. what works on single numbers keeps it, and takes its constants along (a factor, a slope);
2. a sum or product of two values makes the units of both one: residual layers lose the same ones;
3. a concatenation puts units side by side, a flattening repeats each as often as it has places;
4. a dense layer or a convolution reads it with a slice of its weight;
5. all else keeps the unit: a normalization, whose mean is over all units, a recurrent layer, a
   product of two activations, an output of the graph.

Source: the dependency groups of Fang et al. 2023, "DepGraph", arXiv 2301.12900, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.layers import Layer, layer_of, value_at
from qtool.graph.model_file import constant

Numbers = NDArray[np.intp]
"""The unit of each element along one axis."""

ELEMENTWISE = (
    *("Abs", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"),
    *("Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid"),
    *("Sign", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu"),
)
"""Operators that make one number of one number of their first input."""
BROADCAST = ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum")
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool")
REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
READ_NO_VALUES = frozenset({"Shape", "Size"})


@dataclass(frozen=True, eq=False)
class Place:
    """A constant with one slice for each unit.

    Attributes:
        node: that reads it.
        index: of the input.
        axis: of the constant.
        units: number of the unit of each slice.
    """

    node: ir.Node
    index: int
    axis: int
    units: Numbers


@dataclass(frozen=True, eq=False)
class Size:
    """A number in the target shape of a Reshape that counts places of units."""

    node: ir.Node
    position: int
    units: Numbers


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a graph.

    Attributes:
        layers: layer → the numbers of its units, of which equal ones are one unit.
        places: all constants that hold units, the weights that read them among them.
        readers: weight of a layer → the units that it reads.
        sizes: shapes that count them.
        depthwise: convolutions with one group per unit.
        kept: number of a unit → why it cannot go.
    """

    layers: Mapping[ir.Node, Numbers]
    places: tuple[Place, ...]
    readers: tuple[Place, ...]
    sizes: tuple[Size, ...]
    depthwise: Mapping[ir.Node, Numbers]
    kept: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class _Lane:
    """The units of a value, along one axis of it."""

    axis: int
    units: Numbers


def units_of(model: ir.Model) -> Units:
    """Returns the units of the dense layers and convolutions of a prepared graph."""
    tracer = _Tracer()
    for node in model.graph:
        tracer.visit(node)
    for value, lane in tracer.lanes.items():
        if value.is_graph_output():
            tracer.keep(lane.units, f"'{value.name}' is an output of the model")
        for use in value.uses():
            if use.node.graph is not model.graph:
                tracer.keep(lane.units, f"{use.node.name} in a branch reads them")
    return tracer.finish()


@dataclass
class _Tracer:
    """What is known of the values of a graph while its nodes are visited in order."""

    lanes: dict[ir.Value, _Lane] = field(default_factory=dict)
    layers: dict[ir.Node, Numbers] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    readers: list[Place] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    depthwise: dict[ir.Node, Numbers] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)

    def visit(self, node: ir.Node) -> None:
        """Follows the units that a node reads, and adds those that it makes."""
        layer = layer_of(node)
        if layer is not None and layer.kind in ("dense", "conv"):
            self._layer(layer)
            return
        read = {index: self.lanes[v] for index, v in enumerate(node.inputs) if v in self.lanes}
        if not read or node.op_type in READ_NO_VALUES:
            return
        follow = FOLLOWED.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        lane = None if follow is None else follow(self, node, read)
        if lane is None:
            for lost in read.values():
                self.keep(lost.units, f"{node.name} ({node.op_type}) reads them")
        else:
            self.lanes[node.outputs[0]] = lane

    def finish(self) -> Units:
        """Returns what was found, every unit under one number."""
        one = np.array([self._root(number) for number in range(len(self.parents))], np.intp)

        def place(found: Place) -> Place:
            return Place(found.node, found.index, found.axis, one[found.units])

        kept: dict[int, str] = {}
        for number, reason in self.reasons.items():
            kept.setdefault(int(one[number]), reason)
        return Units(
            {node: one[units] for node, units in self.layers.items()},
            tuple(map(place, self.places)),
            tuple(map(place, self.readers)),
            tuple(Size(size.node, size.position, one[size.units]) for size in self.sizes),
            {node: one[units] for node, units in self.depthwise.items()},
            kept,
        )

    def keep(self, units: Numbers, reason: str) -> None:
        """Says why some units cannot go."""
        for number in units:
            self.reasons.setdefault(int(number), reason)

    def fresh(self, count: int) -> Numbers:
        """Returns new units."""
        start = len(self.parents)
        self.parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def one(self, first: Numbers, second: Numbers) -> None:
        """Makes the units of both sides one, number by number."""
        for a, b in zip(first, second, strict=True):
            roots = self._root(int(a)), self._root(int(b))
            self.parents[max(roots)] = min(roots)

    def hold(self, node: ir.Node, index: int, axis: int, units: Numbers) -> Place:
        """Adds a constant that holds units."""
        self.places.append(Place(node, index, axis, units))
        return self.places[-1]

    def _root(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def _layer(self, layer: Layer) -> None:
        node = layer.node
        weight = constant(layer.weight())
        assert weight is not None
        x, conv = self.lanes.get(value_at(node, 0)), layer.kind == "conv"
        groups = node.attributes.get_int("group", 1) if conv else 1
        axis = 1 if conv else _rank(node.outputs[0]) - 1
        if groups > 1:
            self._grouped(node, x, groups, len(weight))
            return
        if x is not None and x.axis == axis:
            self.readers.append(self.hold(node, 1, 1 if conv else 0, x.units))
        elif x is not None:
            self.keep(x.units, f"{node.name} ({node.op_type}) reads them along another axis")
        units = self.fresh(weight.shape[0 if conv else 1])
        self.layers[node] = units
        self.hold(node, 1, 0 if conv else 1, units)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            self.hold(node, 2, 0, units)
        if axis < 0:
            self.keep(units, "the rank of its output is not known")
        else:
            self.lanes[node.outputs[0]] = _Lane(axis, units)

    def _grouped(self, node: ir.Node, x: _Lane | None, groups: int, outputs: int) -> None:
        """One filter per channel keeps the units; other groups keep them for good."""
        if x is not None and x.axis == 1 and groups == outputs == len(x.units):
            self.depthwise[node] = x.units
            self.hold(node, 1, 0, x.units)
            self.hold(node, 2, 0, x.units)
            self.lanes[node.outputs[0]] = x
            return
        reason = f"{node.name} (Conv) has {groups} groups"
        if x is not None:
            self.keep(x.units, reason)
        self.layers[node] = self.fresh(outputs)
        self.keep(self.layers[node], reason)


Read = Mapping[int, _Lane]


def _same(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    del tracer, node
    return read.get(0) if len(read) == 1 else None


def _broadcast(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    rank, first = _rank(node.outputs[0]), next(iter(read.items()))
    own = _rank(value_at(node, first[0]))
    if rank < 0 or own < 0:
        return None
    lane = _Lane(first[1].axis + rank - own, first[1].units)
    found = []
    for index in range(len(node.inputs)):
        value = value_at(node, index)
        shape = _shape(value)
        if shape is None:
            return None
        axis = lane.axis - (rank - len(shape))
        other = read.get(index)
        if other is not None and (other.axis, len(other.units)) != (axis, len(lane.units)):
            return None
        if other is None and axis >= 0 and shape[axis] != 1:
            if constant(value) is None or shape[axis] != len(lane.units):
                return None
            found.append((index, axis))
    for other in read.values():
        tracer.one(lane.units, other.units)
    for index, axis in found:
        tracer.hold(node, index, axis, lane.units)
    return lane


def _batch_norm(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    if [*read] != [0] or read[0].axis != 1 or any(constant(v) is None for v in node.inputs[1:5]):
        return None
    for index in range(1, 5):
        tracer.hold(node, index, 0, read[0].units)
    return read[0]


def _pool(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    del tracer, node
    return read[0] if read[0].axis == 1 else None


def _reduction(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    del tracer
    axes, rank = _axes(node), _rank(value_at(node, 0))
    if axes is None or rank < 0:
        return None
    reduced = {axis % rank for axis in axes}
    if read[0].axis in reduced:
        return None
    gone = 0 if node.attributes.get_int("keepdims", 1) else sum(a < read[0].axis for a in reduced)
    return _Lane(read[0].axis - gone, read[0].units)


def _squeeze(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    del tracer
    axes, rank = _axes(node), _rank(value_at(node, 0))
    if axes is None or rank < 0:
        return None
    gone = {axis % rank for axis in axes}
    if read[0].axis in gone:
        return None
    return _Lane(read[0].axis - sum(axis < read[0].axis for axis in gone), read[0].units)


def _unsqueeze(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    del tracer
    axes, rank = _axes(node), _rank(node.outputs[0])
    if axes is None or rank < 0:
        return None
    new = {axis % rank for axis in axes}
    return _Lane([axis for axis in range(rank) if axis not in new][read[0].axis], read[0].units)


def _transpose(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    del tracer
    rank = _rank(value_at(node, 0))
    order = tuple(node.attributes.get_ints("perm") or range(rank)[::-1])
    return _Lane(order.index(read[0].axis), read[0].units) if rank >= 0 else None


def _concat(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    rank = _rank(node.outputs[0])
    axis, along = node.attributes.get_int("axis", 0), next(iter(read.values())).axis
    if rank < 0 or any(lane.axis != along for lane in read.values()):
        return None
    if axis % rank != along:
        if len(read) < len(node.inputs):
            return None
        for other in read.values():
            tracer.one(read[0].units, other.units)
        return read[0]
    shapes = [_shape(value_at(node, index)) for index in range(len(node.inputs))]
    sizes = [None if shape is None else shape[along] for shape in shapes]
    parts = []
    for index, size in enumerate(sizes):
        if index not in read and size is None:
            return None
        lane = read.get(index)
        parts.append(tracer.fresh(size or 0) if lane is None else lane.units)
        if lane is None:
            tracer.keep(parts[-1], f"{node.name} (Concat) joins them with others")
    for index, part in enumerate(parts):
        if index not in read and constant(value_at(node, index)) is not None:
            tracer.hold(node, index, along, part)
    return _Lane(along, np.concatenate(parts))


def _window(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    """A slice of, or a padding around, other axes than that of the units."""
    del tracer
    lane, rank = read[0], _rank(value_at(node, 0))
    if [*read] != [0] or rank < 0:
        return None
    if node.op_type == "Pad":
        pads = constant(node.inputs[1])
        if pads is None or (len(node.inputs) > 3 and node.inputs[3] is not None):
            return None
        return lane if not pads.reshape(2, -1)[:, lane.axis].any() else None
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    cut = None if axes is None else {int(axis) % rank for axis in axes.reshape(-1)}
    return lane if cut is not None and lane.axis not in cut else None


def _reshape(tracer: _Tracer, node: ir.Node, read: Read) -> _Lane | None:
    """Flattening behind the units, or other axes that are joined or divided in front of them."""
    before, after = _shape(value_at(node, 0)), _shape(node.outputs[0])
    if before is None or after is None:
        return None
    lane, last = read[0], len(after) - 1
    if lane.axis == len(before) - 1 and after[-1] == len(lane.units):
        found = _Lane(last, lane.units)
    elif last == 1 and lane.axis == 1 and after[1] is not None:
        found = _Lane(1, np.repeat(lane.units, after[1] // len(lane.units)))
        if after[1] != len(found.units) or None in before[2:]:
            return None
        if after[1] != len(lane.units) * int(np.prod([size or 0 for size in before[2:]])):
            return None
    else:
        return None
    if node.op_type == "Reshape":
        target = constant(node.inputs[1])
        if target is None or target.size != len(after) or target[-1] == 0:
            return None
        if target[-1] > 0:
            tracer.sizes.append(Size(node, last, found.units))
    elif node.attributes.get_int("axis", 1) != last:
        return None
    return found


def _axes(node: ir.Node) -> list[int] | None:
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        found = constant(node.inputs[1])
        return None if found is None else [int(axis) for axis in found.reshape(-1)]
    listed = node.attributes.get_ints("axes")
    return None if listed is None else [int(axis) for axis in listed]


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    """Returns the shape as far as it is known: None for a symbolic size."""
    array = constant(value)
    if array is not None:
        return array.shape
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def _rank(value: ir.Value) -> int:
    """Returns how many axes a value has, -1 when that is not known."""
    shape = _shape(value)
    return -1 if shape is None else len(shape)


FOLLOWED: Mapping[str, Callable[[_Tracer, ir.Node, Read], _Lane | None]] = {
    **dict.fromkeys(ELEMENTWISE, _same),
    **dict.fromkeys(BROADCAST, _broadcast),
    **dict.fromkeys(POOLS, _pool),
    **dict.fromkeys(REDUCTIONS, _reduction),
    "BatchNormalization": _batch_norm,
    "Concat": _concat,
    "Flatten": _reshape,
    "Pad": _window,
    "Reshape": _reshape,
    "Slice": _window,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Operator → the units of its output; None: they cannot go."""
