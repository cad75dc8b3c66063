from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.config.quantization import PercentileObserver
from qtool.numerics.affine import QuantSpec, choose_qparams, fake_quantize
from qtool.numerics.histogram import Histogram
from qtool.numerics.observers import OBSERVERS, min_max, mse, observer, percentile

UINT8 = QuantSpec("uint8", symmetric=False)
values = hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1e3, 1e3, width=32))


def squared_error(x: np.ndarray, low: float, high: float, spec: QuantSpec) -> float:
    params = choose_qparams(np.float32(low), np.float32(high), spec)
    return float(((x - fake_quantize(x, params)).astype(np.float64) ** 2).mean())


@given(values)
@pytest.mark.parametrize("name", OBSERVERS)
def test_ranges_contain_zero_and_lie_inside_the_extremes(name, x):
    low, high = OBSERVERS[name](Histogram.of(x), UINT8)
    assert min(x.min(), 0) <= low[0] <= 0 <= high[0] <= max(x.max(), 0)


def test_percentile_of_a_known_distribution():
    x = np.arange(100_001, dtype=np.float32)
    low, high = percentile(Histogram.of(x), UINT8, percentile=99)
    width = 2.0**17 / 1024
    assert high[0] == pytest.approx(99_000, abs=width)
    assert low[0] == 0


@given(values, st.floats(50.1, 99.99))
def test_percentile_is_within_one_bin_of_the_exact_quantile(x, share):
    histogram = Histogram.of(x)
    _, high = percentile(histogram, UINT8, percentile=share)
    width = 2.0 ** float(histogram.exponent[0])
    # Between the two order statistics that bracket the share, widened by a bin.
    ordered = np.sort(x)
    position = share / 100 * len(x)
    below = ordered[max(int(np.floor(position)) - 1, 0)]
    above = ordered[min(int(np.ceil(position)), len(x) - 1)]
    assert min(max(below, 0), x.max()) - width <= high[0] <= max(above, 0) + width


def test_mse_clips_an_outlier_and_wins_on_its_own_criterion():
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.standard_normal(200_000), [12.0]]).astype(np.float32)
    histogram = Histogram.of(x)
    chosen = mse(histogram, UINT8)
    assert chosen[1][0] < 10
    error, widest, narrow = (
        squared_error(x, low[0], high[0], UINT8)
        for low, high in (
            chosen,
            min_max(histogram, UINT8),
            percentile(histogram, UINT8, percentile=99),
        )
    )
    assert error < 0.8 * widest
    assert error < narrow


def test_mse_keeps_a_rare_flag():
    x = np.zeros(10_000, np.float32)
    x[:3] = 1
    _, high = mse(Histogram.of(x), UINT8)
    assert high[0] == 1


def test_the_configured_percentile_is_used():
    x = np.arange(1000, dtype=np.float32)
    chosen = observer(PercentileObserver(method="percentile", percentile=90))
    assert chosen(Histogram.of(x), UINT8)[1][0] == pytest.approx(900, abs=2)
