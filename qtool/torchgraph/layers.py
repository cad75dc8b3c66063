"""Operators that mix values: products, normalisations, softmax, reductions.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import Builder, Operator, attribute, integers, plain, refused


def _gemm(node: ir.Node) -> Operator:
    transpose_a = bool(attribute(node, "transA", 0))
    transpose_b = bool(attribute(node, "transB", 0))
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)

    def gemm(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.t() if transpose_a else a
        b = b.t() if transpose_b else b
        if c is None:
            return torch.mul(torch.mm(a, b), alpha)
        return torch.addmm(c, a, b, alpha=alpha, beta=beta)

    return gemm


def _layer_normalization(node: ir.Node) -> Operator:
    axis, epsilon = attribute(node, "axis", -1), attribute(node, "epsilon", 1e-5)

    def normalize(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        bias = None if bias is None else bias.expand(shape)
        return functional.layer_norm(x, shape, scale.expand(shape), bias, epsilon)

    return normalize


def _batch_normalization(node: ir.Node) -> Operator:
    if attribute(node, "training_mode", 0):
        raise refused(
            node, "training_mode is 1", "an inference graph", "Export the model in eval mode."
        )
    epsilon = attribute(node, "epsilon", 1e-5)
    return lambda x, scale, bias, mean, variance: functional.batch_norm(
        x, mean, variance, scale, bias, training=False, eps=epsilon
    )


def _reduction(reduce: Callable[..., Tensor]) -> Builder:
    def build(node: ir.Node) -> Operator:
        axes = integers(node, "axes", 1)
        keep = bool(attribute(node, "keepdims", 1))
        empty_is_noop = bool(attribute(node, "noop_with_empty_axes", 0))

        def operator(*tensors: Tensor) -> Tensor:
            chosen = axes(tensors)
            if not chosen and empty_is_noop:
                return tensors[0]
            return reduce(tensors[0], dim=chosen or tuple(range(tensors[0].ndim)), keepdim=keep)

        return operator

    return build


LAYERS: dict[str, Builder] = {
    "BatchNormalization": _batch_normalization,
    "Dropout": plain(lambda x, *_: x),
    "Gemm": _gemm,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": lambda node: partial(functional.log_softmax, dim=attribute(node, "axis", -1)),
    "MatMul": plain(torch.matmul),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceSum": _reduction(torch.sum),
    "Softmax": lambda node: partial(functional.softmax, dim=attribute(node, "axis", -1)),
}
