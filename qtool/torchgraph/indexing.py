"""Operators that look values up, or put them in place, by index; and those that make indices.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

import onnx_ir as ir
import torch
from torch import Tensor

from qtool.torchgraph.elementwise import torch_dtype
from qtool.torchgraph.nodes import (
    Builder,
    Operator,
    Value,
    attribute,
    input_constant,
    listed,
    plain,
)

_SCATTERED = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
"""ONNX's names of what happens to values that meet in one place → torch's."""


def _from_start(indices: Tensor, length: int) -> Tensor:
    """Returns indices counted from the start; ONNX counts negative ones from the end."""
    return torch.where(indices < 0, indices + length, indices)


def _gather(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 0)
    fixed = input_constant(node, 1)
    if fixed is not None and fixed.ndim == 0:
        position = int(fixed)
        return lambda data, _: data.select(axis, position)

    def gather(data: Tensor, indices: Tensor) -> Tensor:
        along = axis % data.ndim
        flat = _from_start(indices.reshape(-1), data.shape[along])
        shape = data.shape[:along] + indices.shape + data.shape[along + 1 :]
        return data.index_select(along, flat).reshape(shape)

    return gather


def _gather_elements(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", 0)
    return lambda x, indices: torch.gather(x, axis, _from_start(indices, x.shape[axis]))


def _gather_nd(node: ir.Node) -> Operator:
    batch_dims = attribute(node, "batch_dims", 0)

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        batch = x.shape[:batch_dims]
        rows = x.reshape(-1, *x.shape[batch_dims:])
        wanted = indices.reshape(rows.shape[0], -1, indices.shape[-1])
        row = torch.arange(rows.shape[0], device=x.device)[:, None]
        found = rows[(row, *wanted.unbind(-1))]
        inner = x.shape[batch_dims + indices.shape[-1] :]
        return found.reshape(*batch, *indices.shape[batch_dims:-1], *inner)

    return gather


def _scatter_elements(node: ir.Node) -> Operator:
    axis, reduction = attribute(node, "axis", 0), attribute(node, "reduction", "none")

    def scatter(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        indices = _from_start(indices, x.shape[axis])
        if reduction == "none":
            return x.scatter(axis, indices, updates)
        return x.scatter_reduce(axis, indices, updates, _SCATTERED[reduction])

    return scatter


def _scatter_nd(node: ir.Node) -> Operator:
    reduction = attribute(node, "reduction", "none")

    def scatter(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        place = torch.zeros_like(indices[..., 0])
        for axis in range(depth):
            place = place * x.shape[axis] + _from_start(indices[..., axis], x.shape[axis])
        inner = x.shape[depth:].numel()
        rows, values = x.reshape(-1, inner), updates.reshape(-1, inner)
        where = place.reshape(-1, 1).expand(-1, inner)
        if reduction == "none":
            return rows.scatter(0, where, values).reshape(x.shape)
        return rows.scatter_reduce(0, where, values, _SCATTERED[reduction]).reshape(x.shape)

    return scatter


def _one_hot(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", -1)

    def one_hot(indices: Tensor, depth: Value, values: Tensor) -> Tensor:
        (size,) = listed(depth)
        classes = torch.arange(size, device=indices.device)
        hot = _from_start(indices, size).unsqueeze(-1) == classes
        return torch.where(hot, values[1], values[0]).movedim(-1, axis)

    return one_hot


def _trilu(node: ir.Node) -> Operator:
    cut = torch.triu if attribute(node, "upper", 1) else torch.tril

    def trilu(x: Tensor, diagonal: Value = None) -> Tensor:
        return cut(x, 0 if diagonal is None else listed(diagonal)[0])

    return trilu


def _range(node: ir.Node) -> Operator:
    fixed = [input_constant(node, index) for index in range(3)]

    def arange(*values: Value) -> Tensor:
        bounds = [
            array.item() if array is not None else _number(value)
            for array, value in zip(fixed, values, strict=True)
        ]
        tensors = [value for value in values if isinstance(value, Tensor)]
        dtype = tensors[0].dtype if tensors else torch.int64
        return torch.arange(*bounds, dtype=dtype)

    return arange


def _number(value: Value) -> float:
    return (
        float(value)
        if isinstance(value, Tensor) and value.is_floating_point()
        else listed(value)[0]
    )


def _eye_like(node: ir.Node) -> Operator:
    diagonal = attribute(node, "k", 0)
    dtype = torch_dtype(node, "dtype") if "dtype" in node.attributes else None

    def eye(x: Tensor) -> Tensor:
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        columns = torch.arange(x.shape[1], device=x.device)
        ones = (columns - rows).eq(diagonal)
        return ones.to(dtype or x.dtype)

    return eye


INDEXING: dict[str, Builder] = {
    "EyeLike": _eye_like,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": plain(lambda x: torch.nonzero(x).T),
    "OneHot": _one_hot,
    "Range": _range,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Trilu": _trilu,
}
