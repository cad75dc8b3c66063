"""Shape arithmetic on Python numbers: what depends on shapes only needs no tensors.

``Shape`` and ``Size`` give Python values, and the operators below keep them. No kernel is started
for them, and torch.compile sees the sizes of a Reshape instead of a tensor that it would have to
read. A value is an int (rank 0) or a tuple (rank 1), int64 or bool.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import onnx_ir as ir
import torch
from torch import Tensor

from qtool.torchgraph.nodes import (
    HostValue,
    Operator,
    Value,
    attribute,
    given,
    input_constant,
    listed,
)

SOURCES = {"Shape": 1, "Size": 0}
"""Operators on tensors that give host values, and the rank of these."""

INTEGER_INPUTS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
}
"""Operator → the inputs that it takes as host values; every other input must be a tensor."""


class HostNode(NamedTuple):
    """``function`` of the node's inputs, all host values; ``rank`` of what it returns."""

    function: Operator
    rank: int


def host_node(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
    """Returns the node on host values, or None when it must run on tensors.

    Args:
        node: the node.
        ranks: the rank of each input; all are host values, or left out (rank 0).
    """
    function = _ELEMENTWISE.get(node.op_type)
    if function is not None:
        return HostNode(partial(_elementwise, function), max(ranks))
    build = _STRUCTURAL.get(node.op_type)
    return None if build is None else build(node, ranks)


def host_constant(value: Value) -> HostValue | None:
    """Returns an int64 or bool constant of rank 0 or 1 as a host value, None for others."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim > 1 or value.dtype not in (torch.int64, torch.bool):
        return None
    return tuple(value.tolist()) if value.ndim else value.item()  # type: ignore[return-value]


def rank_of(value: HostValue | None) -> int:
    """Returns 1 for a tuple, 0 for a number and what is left out."""
    return int(isinstance(value, tuple))


def _elementwise(function: Callable[..., int], *values: HostValue) -> HostValue:
    lists = [listed(value) for value in values]
    length = next((len(found) for found in lists if len(found) != 1), 1)
    wide = [found * length if len(found) == 1 else found for found in lists]
    result = tuple(function(*elements) for elements in zip(*wide, strict=True))
    return result if any(isinstance(value, tuple) for value in values) else result[0]


def _truncated(dividend: int, divisor: int) -> int:
    if (dividend < 0) != (divisor < 0):
        return -(-dividend // divisor)
    return dividend // divisor


_ELEMENTWISE: dict[str, Callable[..., int]] = {
    "Abs": abs,
    "Add": lambda a, b: a + b,
    "Div": _truncated,
    "Equal": lambda a, b: a == b,
    "Greater": lambda a, b: a > b,
    "Identity": lambda a: a,
    "Less": lambda a, b: a < b,
    "Max": max,
    "Min": min,
    "Mul": lambda a, b: a * b,
    "Neg": lambda a: -a,
    "Sub": lambda a, b: a - b,
    "Where": lambda condition, a, b: a if condition else b,
}


def _cast(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
    if attribute(node, "to", 0) != ir.DataType.INT64:
        return None
    # A bool becomes a number; int() would make a constant of a size that torch.compile traces.
    return HostNode(partial(_elementwise, lambda value: value + 0), ranks[0])


def _gather(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
    def gather(data: tuple[int, ...], indices: HostValue) -> HostValue:
        if isinstance(indices, tuple):
            return tuple(data[index] for index in indices)
        return data[indices]

    return HostNode(gather, ranks[1]) if ranks[0] == 1 else None


def _concat(node: ir.Node, ranks: Sequence[int]) -> HostNode:
    return HostNode(lambda *parts: tuple(size for part in parts for size in part), 1)


def _slice(node: ir.Node, ranks: Sequence[int]) -> HostNode:
    def cut(
        data: tuple[int, ...], starts: HostValue, ends: HostValue, _: Value = None, steps: Value = 1
    ) -> HostValue:
        step = 1 if steps is None else listed(steps)[0]
        return data[listed(starts)[0] : listed(ends)[0] : step]

    return HostNode(cut, 1)


def _squeeze(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
    return HostNode(lambda value, _: listed(value)[0], 0) if given(node, 1) else None


def _unsqueeze(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
    axes = input_constant(node, 1)
    becomes_vector = ranks[0] == 0 and axes is not None and axes.size == 1
    return HostNode(lambda value, _: (value,), 1) if becomes_vector else None


def _reshape(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
    """Knows ``Reshape(value, [-1])``, which exporters write for Unsqueeze, and its inverse."""
    shape = input_constant(node, 1)
    if shape is None or shape.size > 1 or (shape.size == 1 and shape.item() not in (-1, 1)):
        return None
    if shape.size == 0:
        return HostNode(lambda value, _: listed(value)[0], 0)
    return HostNode(lambda value, _: listed(value), 1)


def _reduction(reduce: Callable[[Any], int]) -> Callable[[ir.Node, Sequence[int]], HostNode | None]:
    def build(node: ir.Node, ranks: Sequence[int]) -> HostNode | None:
        if ranks[0] == 0 or attribute(node, "noop_with_empty_axes", 0):
            return None
        if attribute(node, "keepdims", 1):
            return HostNode(lambda value, *_: (reduce(value),), 1)
        return HostNode(lambda value, *_: reduce(value), 0)

    return build


_STRUCTURAL: dict[str, Callable[[ir.Node, Sequence[int]], HostNode | None]] = {
    "Cast": _cast,
    "Concat": _concat,
    "Gather": _gather,
    "ReduceMax": _reduction(max),
    "ReduceMin": _reduction(min),
    "ReduceProd": _reduction(math.prod),
    "ReduceSum": _reduction(sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
