"""Which constants make the channels of an activation: dividing them divides the activation.

Every element of the activation has the number of its channel. The numbers are followed up the
graph, on the shapes that real rows give, through

1. nodes that only move values: reshaping, transposing, a constant selection, ``Concat``;
2. nodes with f(s x) = s f(x) for s > 0: Relu, LeakyRelu, PRelu, pooling; a product of two
   activations, where one factor takes it all: the values of attention, and one side of a gate;
3. sums, which divide each of their parts,

to the constants that multiply: the weight and the bias of a layer (its outputs), the scale and the
bias of a normalization, a factor by itself (the form in which most RMS normalizations are
exported). An activation on the way that something else reads, too, cannot be divided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.rows import RowReader
from qtool.calibration.watched import PROBE_ROWS
from qtool.graph.layers import Layer, name_of, value_at
from qtool.graph.model_file import constant
from qtool.graph.prepare.dense import is_dense, is_dense_product
from qtool.graph.prepare.ownership import own
from qtool.numerics.affine import Array
from qtool.runtime.shapes import shapes_of
from qtool.tuning.tuned import Rows

Labels = NDArray[np.intp]
"""The channel of each element; -1 for none."""
Shapes = Mapping[str, tuple[int, ...]]

READ_NO_VALUES = frozenset({"Shape", "Size"})
RESHAPES = frozenset({"Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True, eq=False)
class Part:
    """A constant that makes channels.

    Attributes:
        node: that reads it.
        index: of the input.
        labels: channel of each element, broadcasts with the constant.
        divides: the constant is a denominator: it is multiplied where others are divided.
    """

    node: ir.Node
    index: int
    labels: Labels
    divides: bool = False

    @property
    def array(self) -> Array:
        """The constant as it is now."""
        array = constant(self.node.inputs[self.index])
        assert array is not None
        return array.astype(np.float32, copy=False)


@dataclass(frozen=True, eq=False)
class Made:
    """All constants that make the channels of one activation; ``weights``: those of layers."""

    parts: list[Part] = field(default_factory=list)
    weights: list[Part] = field(default_factory=list)


class KeptError(Exception):
    """The channels cannot be divided; the message says why."""


def makers(value: ir.Value, axis: int, shapes: Shapes) -> Made:
    """Returns the constants that make the channels of ``value``, whose readers are not looked at.

    Args:
        value: a float32 value of the graph.
        axis: of its channels.
        shapes: of every value of the graph, on some rows.

    Raises:
        KeptError: something else than constants makes them, or something else reads them.
    """
    shape = shapes[name_of(value)]
    along = [1] * len(shape)
    along[axis] = -1
    labels = np.broadcast_to(np.arange(shape[axis]).reshape(along), shape)
    made = Made()
    _follow(value, labels, shapes, made)
    return made


def divide(graph: ir.Graph, made: Made, factors: NDArray[np.float64]) -> None:
    """Divides the channels by ``factors`` > 0, in place."""
    known = np.append(factors, 1.0)  # the last one is that of -1
    for part in made.parts:
        by = known[part.labels]
        array = part.array.astype(np.float64)
        name = name_of(part.node.inputs[part.index])
        array = array * by if part.divides else array / by
        own(graph, part.node, part.index, array.astype(np.float32), name)


def multiply(graph: ir.Graph, layer: Layer, factors: NDArray[np.float64]) -> None:
    """Multiplies what a layer's weight does with each input channel by ``factors``, in place."""
    weight = weight_of(layer)
    if layer.kind == "conv":
        groups = layer.node.attributes.get_int("group", 1)
        by = np.repeat(factors.reshape(groups, -1), len(weight) // groups, axis=0)
        by = by.reshape(*by.shape, *[1] * (weight.ndim - 2))
    else:
        by = factors[:, None]
    index = layer.weights[0]
    own(graph, layer.node, index, (weight * by).astype(np.float32), name_of(layer.weight()))


def all_shapes(model: ir.Model, rows: Rows) -> Shapes:
    """Returns the shapes of all values of the graph on a few rows."""
    few = RowReader(rows(PROBE_ROWS)).take(PROBE_ROWS)
    probe = {name: np.resize(array, (PROBE_ROWS, *array.shape[1:])) for name, array in few.items()}
    inner = [str(value.name) for node in model.graph for value in node.outputs if value.name]
    found = shapes_of(model, inner, probe)
    return {**found, **{name: tuple(array.shape) for name, array in probe.items()}}


def reads_channels(layer: Layer) -> bool:
    """Whether a layer multiplies the channels of its first input with a weight of its own."""
    return layer.kind in ("dense", "conv")


def other_readers(value: ir.Value, layers: Collection[ir.Node]) -> list[ir.Node]:
    """Returns the nodes but ``layers`` that read the numbers of ``value``."""
    uses = [use for use in value.uses() if use.node.op_type not in READ_NO_VALUES]
    return [use.node for use in uses if use.idx or use.node not in layers]


def weight_of(layer: Layer) -> Array:
    """Returns the weight of a layer as it is now."""
    weight = constant(layer.weight())
    assert weight is not None
    return weight.astype(np.float32, copy=False)


def channel_axis(layer: Layer, rank: int) -> int:
    """Returns the axis of the channels in the input of a dense layer or a convolution."""
    return 1 if layer.kind == "conv" else rank - 1


def _follow(value: ir.Value, labels: Labels, shapes: Shapes, made: Made) -> None:
    """Adds to ``made`` what makes ``value``, of which every element has its label."""
    if (labels < 0).all():
        return
    if value.is_graph_output():
        raise KeptError(f"'{value.name}' is an output of the model")
    node = value.producer()
    if node is None:
        raise KeptError(f"'{value.name}' is an input of the model")
    if node.domain in ("", "ai.onnx") and node.op_type in FOLLOWED:
        FOLLOWED[node.op_type](node, labels, shapes, made)
        return
    places = _places(node, value, shapes)
    if places is None:
        raise KeptError(f"{node.name} ({node.op_type}) makes them")
    _up(node, 0, _spread(labels, places, shapes[name_of(node.inputs[0])]), shapes, made)


def _up(node: ir.Node, index: int, labels: Labels, shapes: Shapes, made: Made) -> None:
    """Follows the input of a node, if nothing else reads what has labels of it."""
    value = value_at(node, index)
    for other, position in value.uses():
        if (other, position) == (node, index) or other.op_type in READ_NO_VALUES:
            continue
        read = [_places(other, output, shapes) for output in other.outputs]
        if position or any(p is None or (labels.reshape(-1)[p] >= 0).any() for p in read):
            raise KeptError(f"{other.name} ({other.op_type}) reads '{value.name}', too")
    _follow(value, labels, shapes, made)


def _places(node: ir.Node, output: ir.Value, shapes: Shapes) -> Labels | None:
    """Returns which element of its first input each element of an output is; None: computed."""
    if node.domain not in ("", "ai.onnx") or constant(node.inputs[0]) is not None:
        return None
    shape = shapes.get(name_of(node.inputs[0]))
    if shape is None or name_of(output) not in shapes:
        return None
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    if node.op_type in RESHAPES:
        return numbers.reshape(shapes[name_of(output)])
    if node.op_type == "Transpose":
        return numbers.transpose(tuple(node.attributes.get_ints("perm") or range(len(shape))[::-1]))
    axis = node.attributes.get_int("axis", 0)
    if node.op_type == "Gather":
        chosen = constant(node.inputs[1])
        return None if chosen is None else np.take(numbers, chosen.astype(np.intp), axis)
    if node.op_type == "Split":
        sizes = [shapes[name_of(each)][axis] for each in node.outputs]
        start = sum(sizes[: node.outputs.index(output)])
        return np.take(numbers, range(start, start + shapes[name_of(output)][axis]), axis)
    return _slice(node, numbers) if node.op_type == "Slice" else None


def _slice(node: ir.Node, numbers: Labels) -> Labels | None:
    arrays = [constant(value) for value in node.inputs[1:]]
    if any(array is None for array in arrays):
        return None
    lists = [[int(number) for number in array.reshape(-1)] for array in arrays if array is not None]
    starts, ends = lists[:2]
    axes = lists[2] if len(lists) > 2 else list(range(len(starts)))
    steps = lists[3] if len(lists) > 3 else [1] * len(starts)
    if min(steps) < 1:
        return None
    chosen = [slice(None)] * numbers.ndim
    for axis, *part in zip(axes, starts, ends, steps, strict=True):
        chosen[axis] = slice(*part)
    return numbers[tuple(chosen)]


def _spread(labels: Labels, places: Labels, shape: tuple[int, ...]) -> Labels:
    """Returns the labels of what was moved to ``places`` of a larger value."""
    spread = np.full(int(np.prod(shape)), -1)
    spread[places.reshape(-1)] = labels.reshape(-1)
    return spread.reshape(shape)


def _same(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    if len(node.inputs) > 1 and constant(node.inputs[1]) is None:
        raise KeptError(f"{node.name} ({node.op_type}) has a slope that is no constant")
    _up(node, 0, labels, shapes, made)


def _pool(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    shape = shapes[name_of(node.inputs[0])]
    _up(node, 0, np.broadcast_to(_along(labels, {0, 1}), shape), shapes, made)


def _mean(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    """A mean or a sum over other axes than that of the channels."""
    shape, axes = (
        shapes[name_of(node.inputs[0])],
        constant(node.inputs[1]) if len(node.inputs) > 1 else None,
    )
    if axes is None:
        raise KeptError(f"{node.name} ({node.op_type}) makes them")
    if not node.attributes.get_int("keepdims", 1):
        labels = np.expand_dims(labels, tuple(int(a) % len(shape) for a in axes.reshape(-1)))
    _up(node, 0, np.broadcast_to(labels, shape), shapes, made)


def _concat(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    axis, start = node.attributes.get_int("axis", 0), 0
    for index, part in enumerate(node.inputs):
        array = constant(part)
        stop = start + (shapes[name_of(part)] if array is None else array.shape)[axis]
        _term(node, index, np.take(labels, range(start, stop), axis), shapes, made)
        start = stop


def _sum(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    for index in range(len(node.inputs)):
        _term(node, index, labels, shapes, made)


def _term(node: ir.Node, index: int, labels: Labels, shapes: Shapes, made: Made) -> None:
    """Follows one part of a sum or a concatenation: an activation, or a constant."""
    array = constant(node.inputs[index])
    if array is None:
        shape = shapes[name_of(node.inputs[index])]
        kept = {a for a in range(labels.ndim) if _size(shape, a, labels.ndim) > 1}
        reduced = _along(labels, kept)
        _up(node, index, np.broadcast_to(_squeezed(reduced, len(shape)), shape), shapes, made)
    elif array.any():
        made.parts.append(Part(node, index, _smallest(labels, array.ndim)))


def _factor(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    """A product takes the factor in one of its sides: in the constant, if it has one."""
    for index in (1, 0):
        array = constant(node.inputs[index])
        if array is not None and (index == 1 or node.op_type == "Mul"):
            divides = node.op_type == "Div"
            made.parts.append(Part(node, index, _smallest(labels, array.ndim), divides))
            return
    sides = (0, 1) if node.op_type == "Mul" else (0,)
    for index in sides:
        tried = Made()
        try:
            _term(node, index, labels, shapes, tried)
        except KeptError:
            if index == sides[-1]:
                raise
            continue
        made.parts.extend(tried.parts)
        made.weights.extend(tried.weights)
        return


def _matmul(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    """A dense layer; or shares times values: a factor of columns is one of the values."""
    if is_dense_product(node):
        _layer(node, labels, shapes, made)
        return
    shape = shapes.get(name_of(node.inputs[1]), ())
    if len(shape) != labels.ndim or shape[:-2] != labels.shape[:-2]:
        raise KeptError(f"{node.name} (MatMul) spreads them")
    columns = _along(labels, set(range(labels.ndim)) - {labels.ndim - 2})
    _up(node, 1, np.broadcast_to(columns, shape), shapes, made)


def _scaled_last(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    del shapes
    last = labels.ndim - 1
    if node.attributes.get_int("axis", -1) not in (-1, last):
        raise KeptError(f"{node.name} ({node.op_type}) has a scale of several axes")
    _normalization(node, _along(labels, {last}).reshape(-1), made)


def _scaled_second(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    del shapes
    _normalization(node, _along(labels, {1}).reshape(-1), made)


def _normalization(node: ir.Node, labels: Labels, made: Made) -> None:
    indices = [index for index in (1, 2) if index < len(node.inputs) and node.inputs[index]]
    if any(constant(node.inputs[index]) is None for index in indices):
        raise KeptError(f"{node.name} ({node.op_type}) has a scale that is no constant")
    made.parts.extend(Part(node, index, labels) for index in indices)


def _layer(node: ir.Node, labels: Labels, shapes: Shapes, made: Made) -> None:
    """A dense layer or a convolution, whose outputs are the channels."""
    del shapes
    if node.op_type != "Conv" and not is_dense(node) and not is_dense_product(node):
        raise KeptError(f"{node.name} ({node.op_type}) has no constant weight")
    if any(constant(value) is None for value in node.inputs[1:]):
        raise KeptError(f"{node.name} ({node.op_type}) has no constant weight")
    axis = 1 if node.op_type == "Conv" else labels.ndim - 1
    outputs = _along(labels, {axis}).reshape(-1)
    weight = outputs.reshape(-1, *[1] * (labels.ndim - 1)) if node.op_type == "Conv" else outputs
    made.weights.append(Part(node, 1, weight))
    made.parts.append(made.weights[-1])
    made.parts.extend(Part(node, index, outputs) for index in range(2, len(node.inputs)))


def _along(labels: Labels, axes: set[int]) -> Labels:
    """Returns the labels along ``axes``, with size 1 elsewhere.

    Raises:
        KeptError: elements that differ in other axes only have different labels.
    """
    chosen = tuple(slice(None) if a in axes else slice(0, 1) for a in range(labels.ndim))
    if (labels != labels[chosen]).any():
        raise KeptError("what makes them makes several alike")
    return labels[chosen]


def _smallest(labels: Labels, rank: int) -> Labels:
    """Returns labels of at least ``rank`` axes that broadcast to ``labels``."""
    varying = {a for a in range(labels.ndim) if (labels != labels.take([0], a)).any()}
    return _squeezed(_along(labels, varying), rank)


def _squeezed(labels: Labels, rank: int) -> Labels:
    """Returns labels without leading axes of size 1, down to ``rank`` axes."""
    while labels.ndim > rank and labels.shape[0] == 1:
        labels = labels[0]
    return labels


def _size(shape: tuple[int, ...], axis: int, rank: int) -> int:
    """Returns the size of an axis, counted in ``rank`` axes, of what broadcasts to them."""
    axis -= rank - len(shape)
    return shape[axis] if axis >= 0 else 1


FOLLOWED: Mapping[str, Callable[[ir.Node, Labels, Shapes, Made], None]] = {
    "Add": _sum,
    "AveragePool": _pool,
    "BatchNormalization": _scaled_second,
    "Concat": _concat,
    "Conv": _layer,
    "Div": _factor,
    "Gemm": _layer,
    "GlobalAveragePool": _pool,
    "GlobalMaxPool": _pool,
    "InstanceNormalization": _scaled_second,
    "LayerNormalization": _scaled_last,
    "LeakyRelu": _same,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _factor,
    "PRelu": _same,
    "ReduceMean": _mean,
    "ReduceSum": _mean,
    "RMSNormalization": _scaled_last,
    "Relu": _same,
    "SimplifiedLayerNormalization": _scaled_last,
    "Sub": _sum,
    "Sum": _sum,
}
"""Operator → how the channels of its output are followed to its inputs; others move or refuse."""
