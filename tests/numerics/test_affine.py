from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.numerics.affine import (
    QuantParams,
    QuantSpec,
    choose_qparams,
    dequantize,
    fake_quantize,
    quantize,
    quantize_columns,
    weight_qparams,
)

UINT8 = QuantSpec("uint8", symmetric=False)
INT8 = QuantSpec("int8", symmetric=False)
WEIGHT = QuantSpec("int8", symmetric=True)

reals = hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-1e6, 1e6, width=32))


def test_worked_example_on_paper():
    # [-1, 4.1] in 255 steps of 0.02; zero sits at code 50.
    params = choose_qparams(np.float32(-1), np.float32(4.1), UINT8)
    assert params.scale == pytest.approx(0.02, rel=1e-6)
    assert params.zero_point == 50
    x = np.array([-2, -1, 0, 0.031, 4.1, 9], np.float32)
    assert quantize(x, params).tolist() == [0, 0, 50, 52, 255, 255]


def test_half_rounds_to_even():
    params = QuantParams(UINT8, np.float32(1), np.uint8(0))
    halves = np.array([0.5, 1.5, 2.5, 3.5], np.float32)
    assert quantize(halves, params).tolist() == [0, 2, 2, 4]


def test_symmetric_weights_use_127_codes_on_each_side():
    params = weight_qparams(np.array([[-2.54, 1.0]], np.float32), WEIGHT)
    assert params.zero_point == 0
    assert quantize(np.array([-2.54, 2.54, -9], np.float32), params).tolist() == [-127, 127, -127]


def test_per_axis_weights_have_one_scale_per_column():
    weight = np.array([[1.27, 0.0], [-0.5, 12.7]], np.float32)
    params = weight_qparams(weight, QuantSpec("int8", symmetric=True, axis=1))
    assert params.scale == pytest.approx([0.01, 0.1])
    assert quantize(weight, params).tolist() == [[127, 0], [-50, 127]]


@given(reals, st.sampled_from([UINT8, INT8, WEIGHT]))
def test_error_inside_the_range_is_at_most_half_a_step(x, spec):
    params = choose_qparams(x.min(), x.max(), spec)
    error = np.abs(x.astype(np.float64) - fake_quantize(x, params))
    # Half a step, plus the rounding of the zero point to a whole code at the ends, plus float32.
    slack = 1.0 if not spec.symmetric else 0.5
    assert (error <= params.scale * (slack + 1e-3) + 1e-6 * np.abs(x)).all()


@given(reals, st.sampled_from([UINT8, INT8, WEIGHT]))
def test_zero_is_exact_and_order_is_kept(x, spec):
    params = choose_qparams(x.min(), x.max(), spec)
    assert fake_quantize(np.zeros(1, np.float32), params)[0] == 0
    ordered = quantize(np.sort(x), params).astype(int)
    assert (np.diff(ordered) >= 0).all()


@given(reals)
def test_codes_survive_a_round_trip(x):
    params = choose_qparams(x.min(), x.max(), UINT8)
    codes = quantize(x, params)
    assert (quantize(dequantize(codes, params), params) == codes).all()


def test_columns_multiply_by_the_reciprocal():
    spec = QuantSpec("uint8", symmetric=False, axis=1)
    params = choose_qparams(np.array([-1, 0], np.float32), np.array([1, 51], np.float32), spec)
    x = np.array([[0.5, 10.1], [-1, 60]], np.float32)
    expected = np.rint(x * (np.float32(1) / params.scale) + params.zero_point.astype(np.float32))
    assert (quantize_columns(x, params) == np.clip(expected, 0, 255)).all()


def test_a_tensor_of_zeros_has_a_usable_scale():
    params = choose_qparams(np.float32(0), np.float32(0), UINT8)
    assert (params.scale, params.zero_point) == (1, 0)


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1), (0, np.inf), (2, 1)])
def test_a_range_that_is_none_is_refused(low, high):
    with pytest.raises(ValueError, match="not a finite range"):
        choose_qparams(np.float32(low), np.float32(high), UINT8)


def test_symmetric_needs_int8():
    with pytest.raises(ValueError, match="int8"):
        QuantSpec("uint8", symmetric=True)
