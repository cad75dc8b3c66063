"""Operators that move values without changing them: reshaping, joining, cutting, looking up.

Shapes are int64 tensors like any other value, so shape arithmetic works with every batch size.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from qtool.torchgraph.nodes import (
    Builder,
    Operator,
    attribute,
    input_constant,
    integers,
    plain,
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
    shape = integers(node, "shape", 1)

    def expand(*tensors: Tensor) -> Tensor:
        wanted = required(shape(tensors), node, "shape")
        return tensors[0].expand(np.broadcast_shapes(tensors[0].shape, wanted))

    return expand


def _shape(node: ir.Node) -> Operator:
    part = slice(attribute(node, "start", 0), attribute(node, "end", None))
    return lambda x: torch.tensor(x.shape[part], dtype=torch.int64)


def _constant_of_shape(node: ir.Node) -> Operator:
    value = attribute(node, "value", None)
    fill = torch.zeros(1) if value is None else torch.from_numpy(np.array(value.numpy()))
    return lambda shape: fill.expand(tuple(shape.tolist()))


def _gather(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 0)
    fixed = input_constant(node, 1)
    if fixed is not None and fixed.ndim == 0:
        position = int(fixed)
        return lambda data, _: data.select(axis, position)

    def gather(data: Tensor, indices: Tensor) -> Tensor:
        along = axis % data.ndim
        flat = indices.reshape(-1)
        # ONNX counts negative indices from the end; index_select refuses them.
        flat = torch.where(flat < 0, flat + data.shape[along], flat)
        shape = data.shape[:along] + indices.shape + data.shape[along + 1 :]
        return data.index_select(along, flat).reshape(shape)

    return gather


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
                x = x.index_select(axis, torch.tensor(list(positions), dtype=torch.int64))
        return x

    return cut


def _concat(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 0)
    return lambda *tensors: torch.cat(tensors, dim=axis)


SHAPING: dict[str, Builder] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": plain(lambda x: x),
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": plain(lambda x, repeats: x.repeat(tuple(repeats.tolist()))),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
