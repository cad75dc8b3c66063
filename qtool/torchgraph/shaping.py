"""Operators that move values without changing them: reshaping, joining, cutting, padding.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import (
    Builder,
    Operator,
    attribute,
    given,
    input_constant,
    integers,
    listed,
    plain,
    refused,
    required,
)


def _reshape(node: ir.Node) -> Operator:
    shape = integers(node, "shape", 1)
    zero_copies = not attribute(node, "allowzero", 0)

    def reshape(*tensors: Tensor) -> Tensor:
        x, wanted = tensors[0], required(shape(tensors), node, "shape")
        if zero_copies:
            wanted = tuple(x.shape[i] if size == 0 else size for i, size in enumerate(wanted))
        return x.reshape(wanted)

    return reshape


def _flatten(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 1)

    def flatten(x: Tensor) -> Tensor:
        rows = x.shape[: axis if axis >= 0 else axis + x.ndim].numel()
        return x.reshape(rows, -1)

    return flatten


def _squeeze(node: ir.Node) -> Operator:
    axes = integers(node, "axes", 1)

    def squeeze(*tensors: Tensor) -> Tensor:
        chosen = axes(tensors)
        return tensors[0].squeeze() if chosen is None else tensors[0].squeeze(chosen)

    return squeeze


def _unsqueeze(node: ir.Node) -> Operator:
    axes = integers(node, "axes", 1)

    def unsqueeze(*tensors: Tensor) -> Tensor:
        x, chosen = tensors[0], required(axes(tensors), node, "axes")
        rank = x.ndim + len(chosen)
        for axis in sorted(axis % rank for axis in chosen):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def _transpose(node: ir.Node) -> Operator:
    order = attribute(node, "perm", None)
    return lambda x: x.permute(tuple(range(x.ndim))[::-1] if order is None else tuple(order))


def _expand(node: ir.Node) -> Operator:
    sizes = integers(node, "shape", 1)

    def expand(*tensors: Tensor) -> Tensor:
        wanted = required(sizes(tensors), node, "shape")
        shape = torch.broadcast_shapes(tensors[0].shape, wanted)  # type: ignore[no-untyped-call]
        return tensors[0].expand(shape)

    return expand


def _shape(node: ir.Node) -> Operator:
    part = slice(attribute(node, "start", 0), attribute(node, "end", None))
    return lambda x: tuple(x.shape[part])


def _constant_of_shape(node: ir.Node) -> Operator:
    value = attribute(node, "value", None)
    fill = torch.zeros(1) if value is None else torch.from_numpy(np.array(value.numpy()))
    return lambda shape: fill.expand(listed(shape))


def _split(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 0)
    sizes = integers(node, "split", 1)
    parts = len(node.outputs)

    def split(*tensors: Tensor) -> tuple[Tensor, ...]:
        chosen = sizes(tensors)
        if chosen is None:
            # All parts equal but the last, which may be smaller (opset 18, num_outputs).
            length = tensors[0].shape[axis]
            step = -(-length // parts)
            chosen = (*[step] * (parts - 1), length - step * (parts - 1))
        return torch.split(tensors[0], list(chosen), dim=axis)

    return split


def _slice(node: ir.Node) -> Operator:
    bounds = [integers(node, name, i) for i, name in enumerate(("starts", "ends"), start=1)]
    axes, steps = integers(node, "axes", 3), integers(node, "steps", 4)

    def cut(*tensors: Tensor) -> Tensor:
        x = tensors[0]
        starts, ends = (required(bound(tensors), node, "starts and ends") for bound in bounds)
        chosen = axes(tensors) or tuple(range(len(starts)))
        strides = steps(tensors) or (1,) * len(starts)
        for axis, start, end, step in zip(chosen, starts, ends, strides, strict=True):
            positions = range(*slice(start, end, step).indices(x.shape[axis]))
            if step > 0:
                index = (slice(None),) * (axis % x.ndim)
                x = x[(*index, slice(positions.start, positions.stop, step))]
            else:
                x = x.index_select(axis, torch.tensor(list(positions), device=x.device))
        return x

    return cut


def _concat(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 0)
    return lambda *tensors: torch.cat(tensors, dim=axis)


def _tile(node: ir.Node) -> Operator:
    repeats = integers(node, "repeats", 1)
    return lambda *values: values[0].repeat(required(repeats(values), node, "repeats"))


def _pad(node: ir.Node) -> Operator:
    mode = attribute(node, "mode", "constant")
    pads, axes, fill = integers(node, "pads", 1), integers(node, "axes", 3), input_constant(node, 2)
    if mode == "constant" and fill is None and given(node, 2):
        raise refused(node, "the padding value is computed", "a constant")
    value: Any = 0 if fill is None else fill.item()

    def pad(*values: Tensor) -> Tensor:
        x, wanted = values[0], required(pads(values), node, "pads")
        chosen = axes(values) or tuple(range(x.ndim))
        sides = dict.fromkeys(range(x.ndim), (0, 0))
        for axis, before, after in zip(
            chosen, wanted[: len(chosen)], wanted[len(chosen) :], strict=True
        ):
            sides[axis % x.ndim] = (before, after)
        if mode == "constant":
            flat = [length for axis in reversed(sides) for length in sides[axis]]
            return functional.pad(x, flat, value=value)
        for axis, (before, after) in sides.items():
            if before or after:
                positions = torch.arange(-before, x.shape[axis] + after, device=x.device)
                x = x.index_select(axis, _POSITIONS[mode](positions, x.shape[axis]))
        return x

    return pad


def _reflected(positions: Tensor, length: int) -> Tensor:
    """Returns positions mirrored at the first and the last element, which are not repeated."""
    last = length - 1
    return last - (positions.remainder(2 * last) - last).abs()


_POSITIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "edge": lambda positions, length: positions.clamp(0, length - 1),
    "reflect": _reflected,
    "wrap": torch.remainder,
}
"""Mode of a Pad → which element stands at positions beyond the ends."""


SHAPING: dict[str, Builder] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": plain(lambda x: x),
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": plain(lambda x: x.numel()),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
