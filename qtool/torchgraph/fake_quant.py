"""Fake quantization with gradients: the float32 arithmetic of ``numerics.affine``, bit for bit.

Forward: true division (or, for columns, multiplication by the float32 reciprocal), round half to
even, clamp. ``torch.fake_quantize_*`` multiplies by the reciprocal everywhere, which moves up
to 4 % of the codes of data that lies on a grid (prices, counts), so it is not used.

Backward, with v = x / s and v̂ the rounded and clamped v:

    ∂x̂/∂x = 1 inside the range, 0 outside          ∂x̂/∂s = v̂ - v inside, v̂ (the bound) outside

Source: Esser et al. 2020, "Learned step size quantization", arXiv 1902.08153, equations 2, 3 and 5;
section 2.2 for the gradient factor 1/sqrt(n * qmax).
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from qtool.numerics.affine import QuantSpec

INT32_LOW, INT32_HIGH = float(-(2**31)), float(2**31 - 1)


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec, count: int
) -> Tensor:
    """Returns ``x`` moved to the nearest representable numbers.

    Args:
        x: float32, any shape.
        scale: float32, shape () or (n,); its gradient is the LSQ gradient times 1/sqrt(count *
            qmax).
        zero_point: codes of zero as float32, the same shape.
        spec: the codes.
        count: numbers that share one scale in one row of an activation, or in a weight.
    """
    scale, zero_point = (_along(values, spec.axis, x.ndim) for values in (scale, zero_point))
    low, high = spec.qmin - zero_point, spec.qmax - zero_point
    return _apply(x, scale, _Rounding(low, high, None, gradient_factor(count, spec)))


def fake_quantize_columns(x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec) -> Tensor:
    """Returns what Mul(1/scale) → Add(zero_point) → QuantizeLinear makes of an activation.

    Args:
        x: float32, shape (rows, columns).
        scale: float32, shape (columns,).
        zero_point: codes of zero as float32, shape (columns,).
        spec: the codes, ``axis=1``.
    """
    low, high = torch.tensor(float(spec.qmin)), torch.tensor(float(spec.qmax))
    return _apply(x, scale, _Rounding(low, high, zero_point, gradient_factor(1, spec)))


def round_bias(bias: Tensor, scale: Tensor) -> Tensor:
    """Returns ``bias`` moved to the int32 grid of ``scale``; the gradient passes straight through.

    Args:
        bias: float32, shape (outputs,).
        scale: s_activation * s_weight, shape () or (outputs,); it gets no gradient from here.
    """
    low, high = torch.tensor(INT32_LOW), torch.tensor(INT32_HIGH)
    return _apply(bias, scale.detach(), _Rounding(low, high, None, 1.0))


def gradient_factor(count: int, spec: QuantSpec) -> float:
    """Returns the factor that balances the gradient of a scale against that of the weights."""
    return float((count * spec.qmax) ** -0.5)


def _along(values: Tensor, axis: int | None, ndim: int) -> Tensor:
    if axis is None:
        return values
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


class _Rounding(NamedTuple):
    """``low`` and ``high`` bound what is rounded; with ``shift`` it is the column form."""

    low: Tensor
    high: Tensor
    shift: Tensor | None
    gradient_factor: float


def _apply(x: Tensor, scale: Tensor, rounding: _Rounding) -> Tensor:
    return cast(Tensor, _FakeQuantize.apply(x, scale, rounding))  # type: ignore[no-untyped-call]


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, rounding: _Rounding) -> Tensor:
        low, high, shift, ctx.factor = rounding
        scaled = x / scale if shift is None else (x * (1.0 / scale)).add_(shift)
        codes = scaled.round().clamp_(low, high)
        # In range, rounding moves by half a step at most; beyond the range, the clamp moves more.
        error = torch.sub(codes, scaled, out=scaled)
        if shift is not None:
            codes.sub_(shift)
        if ctx.needs_input_grad[1]:
            ctx.save_for_backward(error, codes, scale)
        elif ctx.needs_input_grad[0]:
            ctx.save_for_backward(error.abs_() <= 0.5)
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        if not ctx.needs_input_grad[1]:
            (inside,) = ctx.saved_tensors
            return grad * inside, None, None
        error, codes, scale = ctx.saved_tensors
        inside = error.abs() <= 0.5
        slope = torch.where(inside, error, codes).mul_(grad)
        return grad * inside, slope.sum_to_size(scale.shape) * ctx.factor, None
