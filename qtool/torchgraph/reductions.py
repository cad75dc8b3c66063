"""Operators along axes: reductions, positions of extremes, sorting, cumulative sums.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor

from qtool.torchgraph.nodes import Builder, Operator, Value, attribute, integers, listed


def _reduction(reduce: Callable[..., Tensor]) -> Builder:
    def build(node: ir.Node) -> Operator:
        axes = integers(node, "axes", 1)
        keep = bool(attribute(node, "keepdims", 1))
        empty_is_noop = bool(attribute(node, "noop_with_empty_axes", 0))

        def operator(*values: Tensor) -> Tensor:
            chosen = axes(values)
            if not chosen and empty_is_noop:
                return values[0]
            return reduce(values[0], dim=chosen or tuple(range(values[0].ndim)), keepdim=keep)

        return operator

    return build


def _product(x: Tensor, dim: tuple[int, ...], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in dim), reverse=True):
        x = torch.prod(x, dim=axis, keepdim=keepdim)
    return x


def _sum_of(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, dim, keepdim: torch.sum(function(x), dim=dim, keepdim=keepdim)


def _extreme(find: Callable[..., Tensor]) -> Builder:
    def build(node: ir.Node) -> Operator:
        axis, keep = attribute(node, "axis", 0), bool(attribute(node, "keepdims", 1))
        if not attribute(node, "select_last_index", 0):
            return partial(find, dim=axis, keepdim=keep)
        return lambda x: x.shape[axis] - 1 - find(x.flip(axis), dim=axis, keepdim=keep)

    return build


def _top_k(node: ir.Node) -> Operator:
    axis, largest = attribute(node, "axis", -1), bool(attribute(node, "largest", 1))
    count = integers(node, "k", 1)

    def top_k(*values: Tensor) -> tuple[Tensor, Tensor]:
        # Stable: of equal values the first comes first; torch.topk takes any.
        ordered = torch.sort(values[0], dim=axis, descending=largest, stable=True)
        (length,) = count(values) or (1,)
        return ordered.values.narrow(axis, 0, length), ordered.indices.narrow(axis, 0, length)

    return top_k


def _cumulative_sum(node: ir.Node) -> Operator:
    exclusive, reverse = (bool(attribute(node, name, 0)) for name in ("exclusive", "reverse"))

    def cumulative_sum(x: Tensor, axis: Value) -> Tensor:
        (along,) = listed(axis)
        x = x.flip(along) if reverse else x
        total = torch.cumsum(x, dim=along).to(x.dtype)
        total = total - x if exclusive else total
        return total.flip(along) if reverse else total

    return cumulative_sum


REDUCTIONS: dict[str, Builder] = {
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "CumSum": _cumulative_sum,
    "ReduceL1": _reduction(_sum_of(torch.abs)),
    "ReduceL2": _reduction(partial(torch.linalg.vector_norm, ord=2)),
    "ReduceLogSum": _reduction(lambda x, **over: torch.sum(x, **over).log()),
    "ReduceLogSumExp": _reduction(torch.logsumexp),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(torch.sum),
    "ReduceSumSquare": _reduction(_sum_of(torch.square)),
    "TopK": _top_k,
}
