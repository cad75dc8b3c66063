"""Fake quantization: the codes of ``numerics.affine``, the gradients of LSQ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qtool.numerics.affine import (
    QuantParams,
    QuantSpec,
    choose_qparams,
    dequantize,
    quantize,
    quantize_columns,
)
from qtool.torchgraph.fake_quant import (
    fake_quantize,
    fake_quantize_columns,
    gradient_factor,
    round_bias,
)

SPECS = [
    QuantSpec("uint8", symmetric=False),
    QuantSpec("int8", symmetric=False, axis=0),
    QuantSpec("int8", symmetric=True),
    QuantSpec("int8", symmetric=True, axis=1),
    QuantSpec("int8", symmetric=True, axis=1, bits=4),
    QuantSpec("uint8", symmetric=False, axis=1, bits=7),
]
VALUES = arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32))


def tensors(params):
    return torch.tensor(params.scale), torch.tensor(params.zero_point.astype(np.float32))


def params_for(values, spec, share):
    over = None if spec.axis is None else 1 - spec.axis
    low, high = values.min(axis=over) * np.float32(share), values.max(axis=over) * np.float32(share)
    return choose_qparams(np.minimum(low, high), np.maximum(low, high), spec)


@settings(deadline=None)
@given(VALUES, st.sampled_from(SPECS), st.sampled_from([1.0, 0.5]))
def test_equals_numerics_bit_for_bit(values, spec, share):
    params = params_for(values, spec, share)
    found = fake_quantize(torch.tensor(values), *tensors(params), spec, count=1)
    expected = dequantize(quantize(values, params), params)
    assert (found.numpy() == expected).all()


@settings(deadline=None)
@given(VALUES, st.sampled_from([SPECS[-1], QuantSpec("int8", symmetric=False, axis=1)]))
def test_columns_equal_numerics_bit_for_bit(values, spec):
    params = params_for(values, spec, 0.7)
    found = fake_quantize_columns(torch.tensor(values), *tensors(params), spec)
    expected = dequantize(quantize_columns(values, params), params)
    assert (found.numpy() == expected).all()


def test_codes_on_a_grid_need_true_division():
    """Prices in cents: multiplying by the reciprocal rounds other codes than ONNX Runtime does."""
    prices = (np.arange(2000) / np.float32(100)).astype(np.float32)
    params = QuantParams(SPECS[0], np.float32(0.02), np.uint8(0))
    codes = quantize(prices, params)
    found = fake_quantize(torch.tensor(prices), *tensors(params), SPECS[0], count=1)
    np.testing.assert_array_equal(np.rint(found.numpy() / params.scale), codes)


def test_gradients_by_hand():
    """Scale 0.5, codes -7..7: 0.6 → v 1.2 → code 1; 9 → v 18 → code 7; -9 → v -18 → code -7."""
    spec = QuantSpec("int8", symmetric=True, bits=4)
    x = torch.tensor([0.6, 9.0, -9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    fake_quantize(x, scale, torch.tensor(0.0), spec, count=3).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    expected = ((1 - 1.2) + 7 - 7) / np.sqrt(3 * 7)
    assert scale.grad.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("columns", [False, True])
def test_scale_gradient_is_the_published_formula(columns):
    random = np.random.default_rng(4)
    x = (random.standard_normal((50, 3)) * [1, 5, 100]).astype(np.float32)
    outer = random.standard_normal((50, 3)).astype(np.float32)
    spec = QuantSpec("uint8", symmetric=False, axis=1)
    params = params_for(x, spec, 0.6)
    scale, zero_point = tensors(params)
    scale.requires_grad_(True)
    if columns:
        found = fake_quantize_columns(torch.tensor(x), scale, zero_point, spec)
    else:
        found = fake_quantize(torch.tensor(x), scale, zero_point, spec, count=1)
    (found * torch.tensor(outer)).sum().backward()
    v = x.astype(np.float64) / params.scale
    low, high = spec.qmin - params.zero_point.astype(int), spec.qmax - params.zero_point.astype(int)
    inside = (v >= low) & (v <= high)
    slope = np.where(inside, np.rint(v) - v, np.clip(v, low, high))
    expected = (slope * outer).sum(axis=0) * gradient_factor(1, spec)
    np.testing.assert_allclose(scale.grad.numpy(), expected, rtol=1e-4)


def test_a_clipped_scale_gradient_is_the_numerical_one():
    """Where every value is clipped, x̂ = bound * scale is smooth and the slope can be measured."""
    spec = QuantSpec("int8", symmetric=True)
    x, zero = torch.tensor([500.0, -300.0, 900.0]), torch.tensor(0.0)

    def total(scale):
        return (fake_quantize(x, scale, zero, spec, count=1) * torch.tensor([1.0, 2.0, 3.0])).sum()

    scale = torch.tensor(1.0, requires_grad=True)
    total(scale).backward()
    numerical = (total(torch.tensor(1.01)) - total(torch.tensor(0.99))) / 0.02
    assert scale.grad.item() / gradient_factor(1, spec) == pytest.approx(numerical.item(), rel=1e-3)


def test_learning_the_scale_finds_a_smaller_error_than_min_max():
    torch.manual_seed(0)
    x = torch.randn(4000)
    spec = QuantSpec("int8", symmetric=True, bits=4)
    scale = torch.tensor(x.abs().max().item() / spec.qmax, requires_grad=True)
    zero = torch.tensor(0.0)
    optimizer = torch.optim.Adam([scale], lr=5e-3)
    errors = []
    for _ in range(60):
        loss = (fake_quantize(x, scale, zero, spec, count=x.numel()) - x).square().mean()
        errors.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert errors[-1] < 0.75 * errors[0]


def test_bias_is_rounded_to_the_int32_grid():
    scale = torch.tensor([0.5, 0.001], requires_grad=True)
    bias = torch.tensor([1.3, 1.3004], requires_grad=True)
    rounded = round_bias(bias, scale)
    assert rounded.tolist() == [1.5, pytest.approx(1.3)]
    rounded.sum().backward()
    assert bias.grad.tolist() == [1.0, 1.0]
    assert scale.grad is None


def test_bias_is_clamped_to_int32():
    rounded = round_bias(torch.tensor([1.0, -1.0]), torch.tensor(1e-12))
    np.testing.assert_allclose(rounded.numpy(), [2**31 * 1e-12, -(2**31) * 1e-12], rtol=1e-6)
