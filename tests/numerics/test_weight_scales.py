"""Initial weight scales: least squared error below 8 bits, never worse than min-max."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qtool.numerics.affine import QuantSpec, fake_quantize, weight_qparams
from qtool.numerics.weight_scales import initial_weight_qparams, mse_weight_qparams

WEIGHTS = arrays(np.float32, (10, 3), elements=st.floats(-1e4, 1e4, width=32))


def spec(bits=4, axis=None, block=None):
    return QuantSpec("int8", symmetric=True, bits=bits, axis=axis, block=block)


def errors(weight, params, groups):
    squared = (weight - fake_quantize(weight, params)).astype(np.float64) ** 2
    return np.array([squared[group].sum() for group in groups])


def groups_of(given, shape):
    if given.block is not None:
        rows = [slice(start, start + given.block) for start in range(0, shape[0], given.block)]
        return [(row, column) for row in rows for column in range(shape[1])]
    if given.axis is None:
        return [...]
    return [
        (index,) if given.axis == 0 else (slice(None), index) for index in range(shape[given.axis])
    ]


@settings(deadline=None)
@given(
    WEIGHTS,
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([{}, {"axis": 0}, {"axis": 1}, {"block": 4}, {"block": 16}]),
)
def test_no_scale_has_a_larger_error_than_min_max(weight, bits, shape):
    chosen = spec(bits, **shape)
    groups = groups_of(chosen, weight.shape)
    found, widest = mse_weight_qparams(weight, chosen), weight_qparams(weight, chosen)
    assert found.scale.shape == widest.scale.shape
    assert found.scale.dtype == np.float32
    assert (found.scale > 0).all()
    assert (errors(weight, found, groups) <= errors(weight, widest, groups)).all()


def test_an_outlier_by_hand():
    """3 bits, codes -3..3: with min-max, 1/3, the eight 0.5 cost (0.5 - 2/3)² each."""
    weight = np.array([[1.0], *[[0.5]] * 8], np.float32)
    found = mse_weight_qparams(weight, spec(bits=3))
    # 1 → code 3 and 0.5 → code 2 at s: 3 (1 - 3s) + 16 (0.5 - 2s) = 0 gives s = 11 / 41.
    assert float(found.scale) == pytest.approx(11 / 41, rel=1e-6)


@pytest.mark.parametrize(("bits", "gain"), [(4, 1.5), (3, 2), (2, 2)])
def test_halves_the_error_of_bell_shaped_weights(bits, gain):
    weight = np.random.default_rng(0).standard_normal((256, 64)).astype(np.float32)
    chosen = spec(bits)
    best = errors(weight, mse_weight_qparams(weight, chosen), [...])
    assert errors(weight, weight_qparams(weight, chosen), [...]) > gain * best


def test_is_as_good_as_a_fine_search():
    weight = np.random.default_rng(1).standard_normal((40, 5)).astype(np.float32)
    chosen = spec(bits=3)
    widest = weight_qparams(weight, chosen)
    searched = min(
        errors(
            weight, type(widest)(chosen, widest.scale * np.float32(share), widest.zero_point), [...]
        )
        for share in np.linspace(0.05, 1, 2000)
    )
    assert errors(weight, mse_weight_qparams(weight, chosen), [...]) < 1.02 * searched


def test_eight_bits_start_with_min_max_and_fewer_with_the_least_error():
    weight = np.random.default_rng(2).standard_normal((40, 5)).astype(np.float32)
    for bits in (8, 7):
        np.testing.assert_array_equal(
            initial_weight_qparams(weight, spec(bits)).scale,
            weight_qparams(weight, spec(bits)).scale,
        )
    assert initial_weight_qparams(weight, spec(4)).scale < weight_qparams(weight, spec(4)).scale


def test_a_channel_of_zeros_keeps_its_scale():
    weight = np.zeros((6, 2), np.float32)
    weight[:, 0] = np.linspace(-1, 1, 6)
    found = mse_weight_qparams(weight, spec(axis=1))
    assert found.scale[1] == 1
    assert (fake_quantize(weight, found)[:, 1] == 0).all()
