from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.numerics.affine import QuantSpec, choose_qparams, fake_quantize
from qtool.numerics.smoothing import (
    Channels,
    Group,
    Maker,
    Reader,
    best_factors,
    rounding_error,
    smoothing_factors,
)

TENSOR = QuantSpec("int8", symmetric=True)
OUTPUTS = QuantSpec("int8", symmetric=True, axis=0)


def channels(x):
    x = x.astype(np.float64)
    return Channels(x.min(axis=0), x.max(axis=0), (x * x).mean(axis=0), (x != 0).mean(axis=0))


def group_of(x, *readers, makers=()):
    seen = x if isinstance(x, Channels) else channels(x)
    return Group(seen, seen.peak, readers, makers)


def dense(weight, spec=TENSOR):
    return Reader(weight.T[None, :, :, None], spec)


def planted(seed=0, rows=4000, width=32, outputs=24, outliers=(3, 17), by=60.0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, width)).astype(np.float32)
    weight = (generator.standard_normal((width, outputs)) / 6).astype(np.float32)
    for channel in outliers:
        x[:, channel] *= by
        weight[channel] /= by
    return x, weight


def measured(x, weight, factors):
    """Squared output error of real rounding, as a share."""
    smooth, scaled = x / factors.astype(np.float32), weight * factors[:, None].astype(np.float32)
    spec = QuantSpec("uint8", symmetric=False)
    params = choose_qparams(smooth.min(), smooth.max(), spec)
    found = fake_quantize(smooth, params) @ (scaled + rounding_error(scaled, TENSOR))
    exact = x.astype(np.float64) @ weight
    return float(((found - exact) ** 2).sum() / (exact**2).sum())


def test_factors_by_hand():
    # max|x| = 16, 1; max|w| = 1/4, 1: sqrt(16 / (1/4)) = 8 and 1, over their mean sqrt(8)
    seen = Channels(np.array([-16.0, 0]), np.array([2.0, 1]), np.ones(2), np.ones(2))
    group = group_of(seen, dense(np.array([[0.25, 0.1], [-1, 0.5]], np.float32)))
    np.testing.assert_allclose(smoothing_factors(group, 0.5), [np.sqrt(8), 1 / np.sqrt(8)])
    np.testing.assert_allclose(smoothing_factors(group, 1.0), [4, 0.25])
    np.testing.assert_allclose(smoothing_factors(group, 0.0), [2, 0.5])


def test_several_readers_count_by_their_largest_weight():
    seen = Channels(np.zeros(2), np.ones(2), np.ones(2), np.ones(2))
    small, large = np.array([[1.0], [1]], np.float32), np.array([[1.0], [4]], np.float32)
    both = group_of(seen, dense(small), dense(large))
    np.testing.assert_allclose(
        smoothing_factors(both, 0), smoothing_factors(group_of(seen, dense(large)), 0)
    )


def test_channels_without_values_or_weights_keep_the_factor_1():
    x, weight = planted()
    x[:, 5], weight[9] = 0, 0
    factors = smoothing_factors(group_of(x, dense(weight)), 0.5)
    assert factors[5] == factors[9] == 1
    assert np.isfinite(factors).all()
    assert (factors > 0).all()


@pytest.mark.parametrize("zero", ["x", "weight"])
def test_what_is_all_zero_is_left_alone(zero):
    x, weight = planted()
    x, weight = (0 * x, weight) if zero == "x" else (x, 0 * weight)
    factors, error = best_factors(group_of(x, dense(weight)))
    assert (factors == 1).all()
    assert error == 0


def test_a_constant_channel_is_smoothed_like_any_other():
    x, weight = planted()
    x[:, 3] = 100
    group = group_of(x, dense(weight))
    assert best_factors(group)[1] < group.error(np.ones(32)) / 10


@pytest.mark.parametrize("strength", [None, 0.2, 0.5, 0.8])
def test_the_expected_error_is_the_measured_one(strength):
    x, weight = planted()
    group = group_of(x, dense(weight))
    factors = np.ones(32) if strength is None else smoothing_factors(group, strength)
    assert group.error(factors) == pytest.approx(measured(x, weight, factors), rel=0.15)


def test_smoothing_beats_none_on_planted_outliers():
    x, weight = planted()
    group = group_of(x, dense(weight))
    factors, _ = best_factors(group)
    assert measured(x, weight, factors) < measured(x, weight, np.ones(32)) / 100


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.sampled_from([TENSOR, OUTPUTS]))
def test_the_best_strength_is_never_worse_than_none(seed, exponent, spec):
    x, weight = planted(seed, rows=50, width=8, outputs=5, outliers=(2,), by=10.0**exponent)
    generator = np.random.default_rng(seed)
    maker = Maker(
        generator.standard_normal((9, 4)).astype(np.float32),
        np.ones(4),
        np.array([0, 1, 2, 3, 4, 5, 6, 7, -1]),
        spec,
    )
    group = group_of(x, dense(weight, spec), makers=[maker])
    factors, error = best_factors(group)
    assert error <= group.error(np.ones(8))
    assert error == group.error(factors)


def test_a_maker_that_pays_for_the_factors_counts():
    """Channels of one size, made and read by weights of one size: factors only do harm."""
    x, weight = planted(by=1.0)
    generator = np.random.default_rng(1)
    rows = generator.standard_normal((32, 16)).astype(np.float32)
    maker = Maker(rows, np.ones(16), np.arange(32), TENSOR)
    group = group_of(x, dense(weight), makers=[maker])
    uneven = np.exp(np.linspace(-3, 3, 32))
    assert group.error(uneven) > 5 * group.error(np.ones(32))
    # An output that becomes no channel keeps its size, but shares the weight's step.
    beside = Maker(rows, np.ones(16), np.where(np.arange(32) < 4, np.arange(32), -1), TENSOR)
    assert beside.variance(np.full(32, 0.01))[4:].mean() > 100 * beside.variance(np.ones(32)).mean()


def test_the_channels_of_a_grouped_convolution():
    weight = np.arange(2 * 3 * 2 * 2, dtype=np.float32).reshape(2, 3, 2, 2)
    reader = Reader(weight, OUTPUTS)
    np.testing.assert_array_equal(reader.peak, [9, 11, 21, 23])
    factors = np.array([1.0, 10, 100, 1000])
    np.testing.assert_array_equal(reader.times(factors)[1, :, 0], 100 * weight[1, :, 0])
    np.testing.assert_array_equal(reader.times(factors)[0, :, 1], 10 * weight[0, :, 1])
    squares, errors = reader.squares(np.ones(4))
    np.testing.assert_allclose(squares[3], (weight[1, :, 1] ** 2).sum())
    assert (errors <= 6 * (23 / 127 / 2) ** 2).all()


def test_zeros_are_exact():
    """Half of the values of a ReLU: half of the rounding error, and of measured rows so, too."""
    x, weight = planted(by=1.0)
    relu = np.maximum(x, 0)
    group = group_of(relu, dense(weight, OUTPUTS))
    exact = relu.astype(np.float64) @ weight
    params = choose_qparams(relu.min(), relu.max(), QuantSpec("uint8", symmetric=False))
    error = ((fake_quantize(relu, params) @ weight - exact) ** 2).mean(axis=0).sum()
    step = float(params.scale)
    expected = (group.channels.filled * step**2 / 12 * (weight**2).sum(axis=1)).sum()
    assert expected == pytest.approx(error, rel=0.1)


def test_peaks_of_other_rows_do_not_flatter():
    """Channels alike but for chance: their largest values on some rows say nothing of others."""
    generator = np.random.default_rng(0)
    first, second = generator.standard_t(3, (2, 200, 256)).astype(np.float32)
    weight = (generator.standard_normal((256, 64)) / 16).astype(np.float32)
    same = Group(channels(first), channels(first).peak, [dense(weight)])
    other = Group(channels(second), channels(first).peak, [dense(weight)])
    ones, full = np.ones(256), smoothing_factors(same, 1.0)
    assert same.error(full) < same.error(ones)
    assert other.error(full) > other.error(ones)
