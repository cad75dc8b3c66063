"""Which values of an activation are padding: rows and steps, followed through the graph.

A sequence input (row, step, …) has a mask input of shape (row, step). From there the two axes are
followed through every operator that keeps them in place, moves them or folds them together, as
torch's attention does with (step, row, channel) and (step * row, channel). Every axis of a tensor
is a product of *factors*: rows, steps, or a plain size. Where an operator mixes positions so that
no factor is left, and after operators that are not listed, values belong to no step and all of
them count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

ROWS = "rows"
"""Label of the factor that is the batch; steps have the name of their mask."""
Shape = tuple[int, ...]

SAME_PLACES = frozenset(  # one a line would fill a screen
    """
    Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Cos CumSum Div Dropout
    Elu Equal Erf Exp Expand Floor Gelu Greater GreaterOrEqual GroupNormalization HardSigmoid
    HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax Max MaxPool Mean Min Mish Mod Mul Neg Not PRelu Pad Pow QuickGelu
    RMSNormalization Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu Round Selu
    Sigmoid Sign Sin SkipLayerNormalization Slice Softmax Softplus Softsign Split Sqrt Sub Sum
    Swish Tanh Where
    """.split()  # noqa: SIM905
)
"""Operators whose output has, on each axis of unchanged size, what an input has there."""
RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


@dataclass(frozen=True)
class Factor:
    """One of the sizes whose product is an axis; ``label`` is empty for a plain size."""

    size: int
    label: str = ""


Axes = tuple[tuple[Factor, ...], ...]


def axes_of(
    model: ir.Model, masks: Mapping[str, str], shapes: Mapping[str, Shape]
) -> dict[str, Axes]:
    """Returns the axes of every value that has rows and steps.

    Args:
        model: the prepared graph.
        masks: input → the input that is its mask.
        shapes: shapes of all values on some rows.
    """
    known: dict[str, Axes] = {}
    for name, mask in masks.items():
        rows, steps = shapes[mask]
        found = Factor(rows, ROWS), Factor(steps, mask)
        for value in (name, mask):
            known[value] = ((found[0],), (found[1],), *_plain(shapes[value][2:]))
    for node in model.graph:
        axes = [_input(value, known, shapes) for value in node.inputs]
        if not any(_labels(one) for one in axes):
            continue
        for output in (str(value.name) for value in node.outputs if value.name):
            if output in shapes:
                known[output] = _output(node, axes, shapes[output])
    return {name: axes for name, axes in known.items() if len(_labels(axes)) > 1}


def real_places(axes: Axes, shape: Shape, masks: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Returns where a tensor has values that are no padding: bool, of its shape.

    Args:
        axes: of the tensor, found on other rows.
        shape: of the tensor.
        masks: mask input → array (rows, steps), 0 for padding.
    """
    rows = len(next(iter(masks.values())))
    sizes = {ROWS: rows} | {name: mask.shape[1] for name, mask in masks.items()}
    factors = [_resized(axis, size, sizes) for axis, size in zip(axes, shape, strict=True)]
    labels = [factor.label for axis in factors for factor in axis]
    unfolded = [factor.size for axis in factors for factor in axis]
    real: NDArray[np.bool_] = np.ones([1] * len(labels), np.bool_)
    for name, mask in masks.items():
        for place in (place for place, label in enumerate(labels) if label == name):
            spread = [1] * len(labels)
            row_place = labels.index(ROWS)
            spread[row_place], spread[place] = mask.shape
            table = mask if row_place < place else mask.T
            real = real & (table != 0).reshape(spread)
    return np.broadcast_to(real, unfolded).reshape(shape)


def _input(value: ir.Value | None, known: Mapping[str, Axes], shapes: Mapping[str, Shape]) -> Axes:
    if value is None:
        return ()
    name = str(value.name)
    if value.const_value is not None:
        return _plain(tuple(value.const_value.shape.numpy()))
    return known.get(name) or _plain(shapes.get(name, ()))


def _output(node: ir.Node, inputs: list[Axes], shape: Shape) -> Axes:
    """Returns the axes of an output of this shape."""
    plain, first = _plain(shape), inputs[0]
    if node.op_type in SAME_PLACES:
        return _same_places(inputs, plain)
    if node.op_type == "Conv":
        kept = _same_places(inputs[:1], plain)
        return (kept[0], plain[1], *kept[2:])  # every channel is made of all channels
    if node.op_type in RESHAPES:
        return _refolded([factor for axis in first for factor in axis], shape) or plain
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm", tuple(reversed(range(len(first)))))
        return tuple(first[place] for place in order)
    if node.op_type == "Gather":
        axis = node.attributes.get_int("axis", 0) % len(first)
        return (*first[:axis], *inputs[1], *first[axis + 1 :])
    if node.op_type == "Gemm":
        return (first[node.attributes.get_int("transA", 0)], plain[1])
    if node.op_type == "MatMul" and min(len(first), len(inputs[1])) >= 2:
        batch = _same_places([first[:-2], inputs[1][:-2]], plain[:-2])
        return (*batch, first[-2], inputs[1][-1])
    if node.op_type in ("LSTM", "GRU", "RNN") and len(shape) == 4:
        return (first[0], plain[1], first[1], plain[3])  # (step, direction, row, unit)
    return plain


def _same_places(inputs: list[Axes], plain: Axes) -> Axes:
    """Returns the axes of an output that has each input's axes, right-aligned, where they fit."""
    found = list(plain)
    for axes in inputs:
        for place, axis in enumerate(reversed(axes[: len(plain)]), start=1):
            if len(axes) <= len(plain) and _labels((axis,)) and _size(axis) == _size(plain[-place]):
                found[-place] = axis
    return tuple(found)


def _refolded(factors: list[Factor], shape: Shape) -> Axes | None:
    """Returns the same factors, in order, folded to ``shape``; None where that cuts a label."""
    left, axes = list(factors), []
    for size in shape:
        axis: list[Factor] = []
        while _size(tuple(axis)) < size and left:
            missing, factor = size // _size(tuple(axis)), left.pop(0)
            if not factor.label and factor.size > missing and factor.size % missing == 0:
                left.insert(0, Factor(factor.size // missing))
                factor = Factor(missing)
            axis.append(factor)
        if _size(tuple(axis)) != size:
            return None
        axes.append(tuple(axis))
    return tuple(axes)


def _resized(axis: tuple[Factor, ...], size: int, sizes: Mapping[str, int]) -> list[Factor]:
    """Returns the factors of an axis that now has ``size``; one plain size takes what is left."""
    known = [replace(factor, size=sizes.get(factor.label, factor.size)) for factor in axis]
    labelled = int(np.prod([factor.size for factor in known if factor.label]))
    plain = [place for place, factor in enumerate(known) if not factor.label]
    if len(plain) == 1:
        known[plain[0]] = Factor(size // labelled)
    return known


def _plain(shape: Shape) -> Axes:
    return tuple((Factor(size),) for size in shape)


def _size(axis: tuple[Factor, ...]) -> int:
    return int(np.prod([factor.size for factor in axis], dtype=np.int64))


def _labels(axes: Axes) -> set[str]:
    return {factor.label for axis in axes for factor in axis if factor.label}
