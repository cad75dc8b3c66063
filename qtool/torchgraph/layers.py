"""Operators that mix values: products, softmax, normalisations.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import Builder, Operator, attribute, opset, plain, refused

PER_CHANNEL_SINCE = 21
"""The opset from which GroupNormalization has one scale per channel, not one per group."""


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


def _einsum(node: ir.Node) -> Operator:
    return partial(torch.einsum, attribute(node, "equation", "").replace(" ", ""))


def _hardmax(node: ir.Node) -> Operator:
    axis = attribute(node, "axis", -1)
    return lambda x: torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1.0)


def _layer_normalization(node: ir.Node) -> Operator:
    axis, epsilon = attribute(node, "axis", -1), attribute(node, "epsilon", 1e-5)

    def normalize(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis:]
        bias = None if bias is None else bias.expand(shape)
        return functional.layer_norm(x, shape, scale.expand(shape), bias, epsilon)

    return normalize


def _rms_normalization(node: ir.Node) -> Operator:
    axis, epsilon = attribute(node, "axis", -1), attribute(node, "epsilon", 1e-5)
    return lambda x, scale: functional.rms_norm(x, x.shape[axis:], None, epsilon) * scale


def _batch_normalization(node: ir.Node) -> Operator:
    if attribute(node, "training_mode", 0):
        raise refused(
            node, "training_mode is 1", "an inference graph", "Export the model in eval mode."
        )
    epsilon = attribute(node, "epsilon", 1e-5)
    return lambda x, scale, bias, mean, variance: functional.batch_norm(
        x, mean, variance, scale, bias, training=False, eps=epsilon
    )


def _instance_normalization(node: ir.Node) -> Operator:
    epsilon = attribute(node, "epsilon", 1e-5)
    # One group per channel; torch's instance_norm refuses a single element.
    return lambda x, scale, bias: functional.group_norm(x, x.shape[1], scale, bias, epsilon)


def _group_normalization(node: ir.Node) -> Operator:
    groups, epsilon = attribute(node, "num_groups", 1), attribute(node, "epsilon", 1e-5)
    per_group = opset(node) < PER_CHANNEL_SINCE

    def normalize(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if per_group:
            scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return normalize


def _lp_normalization(node: ir.Node) -> Operator:
    axis, power = attribute(node, "axis", -1), attribute(node, "p", 2)

    def normalize(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, ord=power, dim=axis, keepdim=True)
        return x / torch.where(norm == 0, torch.ones_like(norm), norm)

    return normalize


LAYERS: dict[str, Builder] = {
    "BatchNormalization": _batch_normalization,
    "Dropout": plain(lambda x, *_: x),
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GroupNormalization": _group_normalization,
    "Hardmax": _hardmax,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LogSoftmax": lambda node: partial(functional.log_softmax, dim=attribute(node, "axis", -1)),
    "LpNormalization": _lp_normalization,
    "MatMul": plain(torch.matmul),
    "RMSNormalization": _rms_normalization,
    "Softmax": lambda node: partial(functional.softmax, dim=attribute(node, "axis", -1)),
}
