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
    weight_qparams,
)
from qtool.torchgraph.fake_quant import (
    fake_quantize,
    fake_quantize_columns,
    gradient_factor,
    round_bias,
)

SPECS = [
    QuantSpec("uint8", symmetric=False),
    QuantSpec("uint8", symmetric=False, bits=4),
    QuantSpec("int8", symmetric=False),
    QuantSpec("int8", symmetric=True),
    QuantSpec("int8", symmetric=True, axis=0, bits=2),
    QuantSpec("int8", symmetric=True, axis=1),
    QuantSpec("int8", symmetric=True, axis=1, bits=4),
    QuantSpec("int8", symmetric=True, bits=3, block=2),
    QuantSpec("int8", symmetric=True, block=3),
]
COLUMNS = [
    QuantSpec("uint8", symmetric=False, axis=1, bits=7),
    QuantSpec("int8", symmetric=False, axis=1),
]
VALUES = arrays(np.float32, (4, 3), elements=st.floats(-1e4, 1e4, width=32))


def fake(values, scale, params, count=1):
    zero_point = 0 if params.spec.symmetric else int(params.zero_point)
    return fake_quantize(torch.tensor(values), scale, zero_point, params.spec, count)


def fake_columns(values, scale, params):
    zero_points = torch.tensor(params.zero_point.astype(np.float32))
    return fake_quantize_columns(torch.tensor(values), scale, zero_points, params.spec)


def params_for(values, spec, share):
    if spec.block is not None:
        return weight_qparams(values * np.float32(share), spec)
    over = None if spec.axis is None else 1 - spec.axis
    low, high = values.min(axis=over) * np.float32(share), values.max(axis=over) * np.float32(share)
    return choose_qparams(np.minimum(low, high), np.maximum(low, high), spec)


@settings(deadline=None)
@given(VALUES, st.sampled_from(SPECS), st.sampled_from([1.0, 0.5]))
def test_equals_numerics_bit_for_bit(values, spec, share):
    params = params_for(values, spec, share)
    found = fake(values, torch.tensor(params.scale), params)
    expected = dequantize(quantize(values, params), params)
    assert (found.numpy() == expected).all()


@settings(deadline=None)
@given(VALUES, st.sampled_from(COLUMNS))
def test_columns_equal_numerics_bit_for_bit(values, spec):
    params = params_for(values, spec, 0.7)
    found = fake_columns(values, torch.tensor(params.scale), params)
    expected = dequantize(quantize_columns(values, params), params)
    assert (found.numpy() == expected).all()


def test_codes_on_a_grid_need_true_division():
    """Prices in cents: multiplying by the reciprocal rounds other codes than ONNX Runtime does."""
    prices = (np.arange(2000) / np.float32(100)).astype(np.float32)
    params = QuantParams(SPECS[0], np.float32(0.02), np.uint8(0))
    codes = quantize(prices, params)
    found = fake(prices, torch.tensor(params.scale), params)
    np.testing.assert_array_equal(np.rint(found.numpy() / params.scale), codes)


def test_gradients_by_hand():
    """Scale 0.5, codes -7..7: 0.6 → v 1.2 → code 1; 9 → v 18 → code 7; -9 → v -18 → code -7."""
    spec = QuantSpec("int8", symmetric=True, bits=4)
    x = torch.tensor([0.6, 9.0, -9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    fake_quantize(x, scale, 0, spec, count=3).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    expected = ((1 - 1.2) + 7 - 7) / np.sqrt(3 * 7)
    assert scale.grad.item() == pytest.approx(expected, rel=1e-5)


def straight_through(x, scale, params, error):
    """x̂(s) in float64, the rounding error a constant: what LSQ differentiates (equation 3)."""
    spec = params.spec
    low, high = spec.qmin - params.zero_point.astype(int), spec.qmax - params.zero_point.astype(int)
    low, high, scale = (params.broadcast(np.asarray(v), x.shape) for v in (low, high, scale))
    clipped = np.clip(x.astype(np.float64) / scale, low, high)
    error = np.rint(clipped) - clipped if error is None else error
    return (clipped + error) * scale, error


def numerical_scale_gradient(x, params, outer):
    """Central difference for each scale on its own."""
    scale = params.scale.astype(np.float64)
    _, error = straight_through(x, scale, params, None)
    found = np.zeros(scale.shape)
    for index in np.ndindex(scale.shape):
        step = np.zeros(scale.shape)
        step[index] = 1e-6 * scale[index]
        ahead, behind = (straight_through(x, scale + s, params, error)[0] for s in (step, -step))
        found[index] = ((ahead - behind) * outer).sum() / (2 * step[index])
    return found


@pytest.mark.parametrize("spec", [*SPECS, *COLUMNS])
def test_scale_gradient_is_the_derivative_of_the_published_formula(spec):
    random = np.random.default_rng(4)
    x = (random.standard_normal((50, 3)) * [1, 5, 100]).astype(np.float32)
    outer = random.standard_normal((50, 3)).astype(np.float32)
    if spec.axis == 0:
        x, outer = x.T.copy(), outer.T.copy()
    params = params_for(x, spec, 0.6)
    scale = torch.tensor(params.scale, requires_grad=True)
    columns = not spec.symmetric and spec.axis == 1
    found = fake_columns(x, scale, params) if columns else fake(x, scale, params, count=7)
    (found * torch.tensor(outer)).sum().backward()
    expected = numerical_scale_gradient(x, params, outer) * gradient_factor(
        1 if columns else 7, spec
    )
    np.testing.assert_allclose(scale.grad.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_gradient_factor_by_hand():
    """4 bits, qmax 7, 28 numbers share a scale: 1 / sqrt(196)."""
    assert gradient_factor(28, QuantSpec("int8", symmetric=True, bits=4)) == pytest.approx(1 / 14)


def test_the_gradient_of_x_stops_at_the_bounds():
    spec = QuantSpec("uint8", symmetric=False)
    x = torch.tensor([-0.1, 0.0, 0.1, 25.4, 25.5, 25.6], requires_grad=True)
    fake_quantize(x, torch.tensor(0.1), 0, spec, count=1).sum().backward()
    assert x.grad.tolist() == [0, 0, 1, 1, 0, 0]


def test_a_clipped_scale_gradient_is_the_numerical_one():
    """Where every value is clipped, x̂ = bound * scale is smooth and the slope can be measured."""
    spec = QuantSpec("int8", symmetric=True)
    x = torch.tensor([500.0, -300.0, 900.0])

    def total(scale):
        return (fake_quantize(x, scale, 0, spec, count=1) * torch.tensor([1.0, 2.0, 3.0])).sum()

    scale = torch.tensor(1.0, requires_grad=True)
    total(scale).backward()
    numerical = (total(torch.tensor(1.01)) - total(torch.tensor(0.99))) / 0.02
    assert scale.grad.item() / gradient_factor(1, spec) == pytest.approx(numerical.item(), rel=1e-3)


def test_learning_the_scale_finds_a_smaller_error_than_min_max():
    torch.manual_seed(0)
    x = torch.randn(4000)
    spec = QuantSpec("int8", symmetric=True, bits=4)
    scale = torch.tensor(x.abs().max().item() / spec.qmax, requires_grad=True)
    optimizer = torch.optim.Adam([scale], lr=5e-3)
    errors = []
    for _ in range(60):
        loss = (fake_quantize(x, scale, 0, spec, count=x.numel()) - x).square().mean()
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
