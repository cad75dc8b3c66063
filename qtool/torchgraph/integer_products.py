"""Products on codes, as the integer kernels compute them: Σ codes · codes, then the scales.

float32 holds every integer below 2**24, so that the sums are exact (255 * 127 * 518 is below it;
longer sums hardly ever reach it). The product of dequantized values would round each term, which
moves one code in 5,000 per layer, and every moved code moves some of the next layer: of a residual
MLP with seven layers 0.2 % of all codes differed from ONNX Runtime's, with sums of codes 0.01 %.

The gradient is that of the product of the dequantized values; scales get theirs through those.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from qtool.torchgraph.nodes import Operator


def dense_on_codes(
    a: Tensor, b: Tensor, bias: Tensor | None, a_scale: Tensor, b_scale: Tensor
) -> Tensor:
    """Returns ``a @ b + bias``.

    Args:
        a: dequantized, (..., K).
        b: dequantized, (K, N) or (..., K, N).
        bias: (N,), or None.
        a_scale: of ``a``: (), or (K,) where the weight absorbs the scales of columns.
        b_scale: of ``b``, which then is that of ``a_scale[:, None] * b``: () or (N,).
    """
    a_scale, b_scale = a_scale.detach(), b_scale.detach()
    folded = a_scale.ndim > 0
    b_steps = b_scale / a_scale[:, None] if folded else b_scale
    products = torch.matmul(_codes(a, a_scale), _codes(b, b_steps))
    return _scaled(products, b_scale if folded else a_scale * b_scale, bias)


def conv_on_codes(function: Operator) -> Operator:
    """Returns the convolution ``function(x, weight)`` of dequantized values, plus a bias."""

    def convolve(
        x: Tensor, weight: Tensor, bias: Tensor | None, x_scale: Tensor, weight_scale: Tensor
    ) -> Tensor:
        channel = (-1, *[1] * (weight.ndim - 2))
        x_scale, steps = x_scale.detach(), weight_scale.detach().reshape(channel)
        products = function(_codes(x, x_scale), _codes(weight, steps[:, None]))
        return _scaled(products, x_scale * steps, None if bias is None else bias.reshape(channel))

    return convolve


def _scaled(products: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    return products * scale if bias is None else torch.addcmul(bias, products, scale)


def _codes(x: Tensor, scale: Tensor) -> Tensor:
    return cast(Tensor, _Codes.apply(x, scale))  # type: ignore[no-untyped-call]


class _Codes(torch.autograd.Function):
    """The integers that stand for dequantized values; a linear map to the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return (x / scale).round_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return grads[0] / scale, None
