from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.config.quantization import PercentileObserver
from qtool.numerics.affine import QuantSpec, choose_qparams, fake_quantize
from qtool.numerics.observers import (
    CLIPPING_POINTS,
    OBSERVERS,
    entropy,
    min_max,
    moving_average,
    mse,
    observer,
    percentile,
)
from qtool.numerics.tensor_statistics import merge, no_statistics, statistics_of

UINT8, INT8 = QuantSpec("uint8", symmetric=False), QuantSpec("int8", symmetric=True)
values = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e3, 1e3, width=32))
HEAVY = {
    "normal": np.random.default_rng(0).standard_normal(100_000),
    "laplace": np.random.default_rng(1).laplace(0.5, 1, 100_000),
    "relu": np.maximum(np.random.default_rng(2).standard_normal(100_000), 0),
    "student": np.random.default_rng(3).standard_t(3, 100_000),
    "negative": -np.random.default_rng(4).gamma(2, 1, 100_000),
}


def squared_error(x: np.ndarray, low: float, high: float, spec: QuantSpec) -> float:
    params = choose_qparams(np.float32(low), np.float32(high), spec)
    return float(((x - fake_quantize(x, params)).astype(np.float64) ** 2).mean())


@given(values)
@pytest.mark.parametrize("spec", [UINT8, INT8])
@pytest.mark.parametrize("name", OBSERVERS)
def test_ranges_contain_zero_and_lie_inside_the_extremes(name, spec, x):
    low, high = OBSERVERS[name](statistics_of(x), spec)
    assert min(x.min(), 0) <= low[0] <= 0 <= high[0] <= max(x.max(), 0)


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize(
    ("value", "expected"), [(0, (0, 0)), (2.5, (0, 2.5)), (-3, (-3, 0)), (1e-30, (0, 1e-30))]
)
def test_a_constant_tensor_is_covered(name, value, expected):
    low, high = OBSERVERS[name](statistics_of(np.full(50, value, np.float32)), UINT8)
    assert (low[0], high[0]) == tuple(np.float32(expected))


@pytest.mark.parametrize("name", OBSERVERS)
def test_no_values_are_no_range(name):
    assert OBSERVERS[name](no_statistics(2, 2), UINT8)[1].tolist() == [0, 0]


@pytest.mark.parametrize("name", OBSERVERS)
def test_columns_are_observed_one_by_one(name):
    x = np.stack([HEAVY["relu"], HEAVY["student"] * 100], axis=1).astype(np.float32)
    together = OBSERVERS[name](statistics_of(x, channel_axis=1, columns=True), UINT8)
    for column in (0, 1):
        low, high = OBSERVERS[name](statistics_of(x[:, column]), UINT8)
        assert (together[0][column], together[1][column]) == (low[0], high[0])


def test_percentile_of_a_known_distribution():
    x = np.arange(100_001, dtype=np.float32)
    low, high = percentile(statistics_of(x), UINT8, percentile=99)
    assert high[0] == pytest.approx(99_000, abs=2.0**17 / 2048)
    assert low[0] == 0


@given(values, st.floats(50.1, 99.99))
def test_percentile_is_within_one_bin_of_the_exact_quantile(x, share):
    statistics = statistics_of(x)
    low, high = percentile(statistics, UINT8, percentile=share)
    width = statistics.histogram.width()[0]
    for found, ordered in ((high[0], np.sort(x)), (-low[0], np.sort(-x))):
        # Between the two order statistics that bracket the share, widened by a bin.
        position = share / 100 * len(x)
        below = ordered[max(int(np.floor(position)) - 1, 0)]
        above = ordered[min(int(np.ceil(position)), len(x) - 1)]
        assert min(max(below, 0), ordered[-1]) - width <= found <= max(above, 0) + width


def test_mse_of_a_few_values_by_hand():
    # Nine ones and one 2, codes 0..255: keeping 2 costs 10 * (2/255)²/12, clipping to t at least
    # (2 - t)², so the range stays whole.
    x = np.array([1] * 9 + [2], np.float32)
    assert mse(statistics_of(x), UINT8)[1][0] == 2
    # With 2 bits (3 steps) keeping costs 10 * (2/3)²/12 = 0.37. Clipping to t costs
    # (2 - t)² + 9 * (t/3)²/12: least at t = 2 / (1 + 9/108) = 1.846.
    two_bits = QuantSpec("uint8", symmetric=False, bits=2)
    assert mse(statistics_of(x), two_bits)[1][0] == pytest.approx(1.846, abs=0.01)


def exact_cost(x, low, high, spec, width):
    """Expected error as the observer defines it, from the values themselves."""
    x = x.astype(np.float64)
    step = (2 * max(-low, high) if spec.symmetric else high - low) / (spec.qmax - spec.qmin)
    outside = np.maximum(x - high, 0) + np.maximum(low - x, 0)
    small = np.abs(x) < width
    inside = (outside == 0) & ~small
    rounded = inside.sum() * step**2 + small.sum() * min(step, 2 * width) ** 2
    return float((outside**2).sum() + rounded / 12)


@pytest.mark.parametrize("spec", [UINT8, INT8])
@pytest.mark.parametrize("name", HEAVY)
def test_mse_is_within_its_bound_of_an_exact_computation(name, spec):
    x = HEAVY[name].astype(np.float32)
    statistics = statistics_of(x)
    (low,), (high,) = mse(statistics, spec)
    width = statistics.histogram.width()[0]
    found = exact_cost(x, low, high, spec, width)
    fractions = np.arange(1, CLIPPING_POINTS + 1) / CLIPPING_POINTS
    outside = np.maximum(x - high, 0) + np.maximum(low - x, 0)
    bound = (width * (outside[outside > 0] + width / 4)).sum()
    for end in fractions:
        for other in (low, low * end):
            least = exact_cost(x, other, high * end, spec, width)
            assert found <= least + 2 * bound + 1e-3 * least  # ends are edges of bins


@pytest.mark.parametrize("name", HEAVY)
def test_mse_quantizes_as_well_as_the_best_of_many_ranges(name):
    x = HEAVY[name].astype(np.float32)
    (low,), (high,) = mse(statistics_of(x), UINT8)
    full = min(x.min(), 0), max(x.max(), 0)
    best = min(
        squared_error(x, full[0] * f, full[1] * g, UINT8)
        for f in np.linspace(0.1, 1, 12)
        for g in np.linspace(0.1, 1, 12)
    )
    assert squared_error(x, low, high, UINT8) <= 1.02 * best


def test_mse_clips_an_outlier_and_wins_on_its_own_criterion():
    x = np.append(np.random.default_rng(0).standard_normal(200_000), 12).astype(np.float32)
    statistics = statistics_of(x)
    chosen = mse(statistics, UINT8)
    assert chosen[1][0] < 10
    error, widest, narrow = (
        squared_error(x, low[0], high[0], UINT8)
        for low, high in (
            chosen,
            min_max(statistics, UINT8),
            percentile(statistics, UINT8, percentile=99),
        )
    )
    assert error < 0.8 * widest
    assert error < narrow


def test_mse_keeps_a_rare_flag():
    x = np.zeros(10_000, np.float32)
    x[:3] = 1
    assert mse(statistics_of(x), UINT8)[1][0] == 1


def test_moving_average_by_hand():
    blocks = [[[1.0, -3.0], [2.0, 0.5]], [[4.0, -1.0]], [[6.0, 0.0]]]
    parts = [
        statistics_of(np.array(block, np.float32), first_row=64 * number)
        for number, block in enumerate(blocks)
    ]
    found = moving_average(merge(merge(parts[2], parts[0]), parts[1]), UINT8)
    assert [end.tolist() for end in found] == [[np.float32(-4 / 3)], [4]]


def test_moving_average_outlasts_one_wild_block():
    x = np.random.default_rng(0).standard_normal((6400, 4)).astype(np.float32)
    x[1000, 2] = 500
    statistics = no_statistics(1, 1)
    for row in range(0, 6400, 64):
        statistics = statistics_of(x[row : row + 64], first_row=row, before=statistics)
    usual = np.delete(x, 1000, axis=0)
    averaged, widest = (
        squared_error(usual, low[0], high[0], UINT8)
        for low, high in (moving_average(statistics, UINT8), min_max(statistics, UINT8))
    )
    assert averaged < widest / 100


def test_entropy_clips_long_tails_for_the_sake_of_the_many():
    x = HEAVY["student"].astype(np.float32)
    statistics, many = statistics_of(x), x[np.abs(x) < 10]
    clipped, widest = (
        squared_error(many, low[0], high[0], UINT8)
        for low, high in (entropy(statistics, UINT8), min_max(statistics, UINT8))
    )
    assert clipped < 0.2 * widest


def test_entropy_is_not_moved_by_zeros():
    x = np.abs(HEAVY["laplace"]).astype(np.float32)
    sparse = np.concatenate([x, np.zeros(10 * len(x), np.float32)])
    found, expected = (entropy(statistics_of(values), UINT8) for values in (sparse, x))
    assert found[1].tolist() == expected[1].tolist()


@settings(max_examples=20, deadline=None)
@given(values)
@pytest.mark.parametrize("name", OBSERVERS)
def test_scaling_the_values_by_a_power_of_two_scales_the_range(name, x):
    once, twice = (OBSERVERS[name](statistics_of(values), UINT8) for values in (x, 2 * x))
    np.testing.assert_array_equal(2 * np.array(once), np.array(twice))


def test_the_configured_percentile_is_used():
    x = np.arange(1000, dtype=np.float32)
    chosen = observer(PercentileObserver(method="percentile", percentile=90))
    assert chosen(statistics_of(x), UINT8)[1][0] == pytest.approx(900, abs=2)
