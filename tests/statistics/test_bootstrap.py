from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qtool.statistics.bootstrap import (
    Draws,
    bootstrap_bounds,
    bootstrap_interval,
    paired_bootstrap,
    subset,
)

ROWS = 200
RANDOM = np.random.default_rng(3)
FIRST = RANDOM.exponential(1, ROWS)
SECOND = FIRST + RANDOM.normal(0.05, 0.2, ROWS)


def mean_of(values):
    return lambda weights: float(np.average(values, weights=weights))


def mean_draws(draws: Draws):
    return paired_bootstrap({"mean": (mean_of(FIRST), mean_of(SECOND))}, draws)["mean"]


def test_weights_are_the_same_again_and_count_rows() -> None:
    draws = Draws(50, resamples=20, seed=1)
    first, second = list(draws.weights()), list(draws.weights())
    assert np.array_equal(first, second)
    assert not np.array_equal(first[0], first[1])
    assert all(weights.dtype == np.float64 and weights.sum() == 50 for weights in first)
    assert not np.array_equal(first, list(Draws(50, resamples=20, seed=2).weights()))


@given(st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_strata_keep_their_size(rows, seed) -> None:
    strata = np.random.default_rng(seed).integers(-1, 3, rows)
    draws = Draws(rows, strata, resamples=5, seed=seed)
    for weights in draws.weights():
        assert np.array_equal(np.bincount(strata + 1, weights), np.bincount(strata + 1))
    assert draws.smallest() == np.unique(strata, return_counts=True)[1].min()


@given(st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_clusters_stay_together_and_strata_keep_their_clusters(rows, seed) -> None:
    random = np.random.default_rng(seed)
    clusters, strata = random.integers(0, 8, rows) * 7, random.integers(0, 2, rows)
    codes, first = np.unique(clusters, return_index=True)
    of_clusters = np.array([strata[clusters == code].max() for code in codes])
    draws = Draws(rows, strata, clusters, resamples=5, seed=seed)
    for weights in draws.weights():
        assert all(len(set(weights[clusters == code])) == 1 for code in codes)
        assert np.array_equal(np.bincount(of_clusters, weights[first]), np.bincount(of_clusters))


@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_blocks_are_circular_runs(rows, block, seed) -> None:
    draws = Draws(rows, block=block, resamples=5, seed=seed)
    for weights in draws.weights():
        assert weights.sum() == rows
        # Every block raises the circle of weights once, so it rises at most once per block.
        rises = np.maximum(np.diff(np.append(weights, weights[0])), 0).sum()
        assert rises <= -(-rows // block)
        assert (weights >= 0).all()


def test_blocks_have_no_strata() -> None:
    with pytest.raises(ValueError, match="no strata"):
        Draws(10, np.zeros(10, int), block=2)


def test_equals_scipy_within_monte_carlo_error() -> None:
    found = bootstrap_interval(
        float(np.mean(SECOND - FIRST)), mean_draws(Draws(ROWS, resamples=8000)), 0.95, units=10**9
    )
    reference = stats.bootstrap(
        (SECOND - FIRST,),
        np.mean,
        n_resamples=8000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert found.error == pytest.approx(reference.standard_error, rel=0.05)
    ends = (reference.confidence_interval.low, reference.confidence_interval.high)
    assert (found.low, found.high) == pytest.approx(ends, abs=0.15 * found.error)


def test_equals_scipy_paired_for_a_ratio() -> None:
    def ratio(x, y):
        return y.std() / y.mean() - x.std() / x.mean()

    def of(values):
        def statistic(weights):
            mean = np.average(values, weights=weights)
            return float(np.sqrt(np.average((values - mean) ** 2, weights=weights)) / mean)

        return statistic

    draws = paired_bootstrap({"ratio": (of(FIRST), of(SECOND))}, Draws(ROWS, resamples=2000))[
        "ratio"
    ]
    reference = stats.bootstrap(
        (FIRST, SECOND),
        ratio,
        n_resamples=2000,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert draws.std(ddof=1) == pytest.approx(reference.standard_error, rel=0.08)


def test_pairs_share_their_draws() -> None:
    draws = Draws(ROWS, resamples=50)
    pairs = {"a": (mean_of(FIRST), mean_of(FIRST)), "b": (mean_of(FIRST), mean_of(SECOND))}
    found = paired_bootstrap(pairs, draws)
    assert not found["a"].any()
    assert np.array_equal(found["b"], mean_draws(draws))


def test_interval_by_hand() -> None:
    differences = np.arange(101) / 100
    found = bootstrap_interval(0.4, differences, 0.9, units=10**9)
    assert (found.low, found.high) == pytest.approx((0.04, 0.96), abs=0.0101)
    assert found.error == pytest.approx(differences.std(ddof=1))
    # Half as far from the subset's own estimate, around the estimate on all rows.
    moved = bootstrap_interval(2.0, differences, 0.9, units=10**9, subset_estimate=0.4, scale=0.5)
    assert moved.low == pytest.approx(2 + (found.low - 0.4) / 2)
    assert moved.high == pytest.approx(2 + (found.high - 0.4) / 2)
    assert moved.error == pytest.approx(found.error / 2)


def test_bounds_by_hand() -> None:
    differences = np.arange(101) / 100
    found = bootstrap_bounds(0.4, differences, 0.95, units=10**9)
    # The percentiles 0.05 and 0.95; below 0.4 the mirror image of the upper one lies further out.
    assert (found.low, found.high) == pytest.approx((0.8 - 0.95, 0.95), abs=0.0101)
    inner = bootstrap_interval(0.4, differences, 0.9, units=10**9)
    assert (found.high, found.error) == (inner.high, inner.error)


def test_few_units_widen_the_interval_as_hesterberg_says() -> None:
    quantile = stats.t.ppf(0.975, 4) * math.sqrt(5 / 4)
    share = stats.norm.cdf(-quantile)
    differences = np.random.default_rng(0).normal(size=20_001)
    found = bootstrap_interval(0.0, differences, 0.95, units=5)
    assert found.low == np.sort(differences)[math.floor(share * 20_000)]
    assert math.isnan(bootstrap_interval(0.0, differences, 0.95, units=1).low)


def test_undefined_differences_may_be_anything() -> None:
    differences = np.arange(1001) / 1000
    differences[:10] = np.nan  # 1 %
    found = bootstrap_interval(0.5, differences, 0.95, units=10**9)
    # 25 below the low end, of which 10 may be the undefined ones.
    assert (found.low, found.high) == pytest.approx((0.025, 0.985), abs=0.0011)
    differences[:30] = np.nan
    found = bootstrap_interval(0.5, differences, 0.95, units=10**9)
    assert (found.low, found.high) == (-math.inf, math.inf)
    nothing = bootstrap_interval(0.5, np.full(10, np.nan), 0.95, units=9)
    assert math.isnan(nothing.error)


def test_blocks_see_the_dependence_of_a_series() -> None:
    random = np.random.default_rng(0)
    shocks, series = random.normal(size=4000), np.zeros(4000)
    for period in range(1, 4000):
        series[period] = 0.8 * series[period - 1] + shocks[period]
    pair = {"mean": (lambda weights: 0.0, mean_of(series))}
    rows, blocks = (
        paired_bootstrap(pair, Draws(4000, block=block, resamples=500))["mean"].std()
        for block in (1, 60)
    )
    # The standard error of the mean of an AR(1): 1 / (1 - 0.8) / sqrt(rows).
    assert blocks == pytest.approx(5 / math.sqrt(4000), rel=0.25)
    assert rows < 0.5 * blocks


def test_subset_has_the_spread_of_all_rows() -> None:
    rows = 20_000
    random = np.random.default_rng(0)
    labels = (random.random(rows) < 0.1).astype(np.int8)
    values = random.normal(size=rows) + 3 * labels
    draws = Draws(rows, labels, resamples=400)
    chosen, scale = subset(draws, 2000)
    assert chosen is not None
    assert chosen.size == pytest.approx(2000, abs=2)
    assert scale == pytest.approx(math.sqrt(0.1), rel=1e-3)
    assert labels[chosen].mean() == pytest.approx(labels.mean(), abs=1e-3)
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, subset(draws, 2000)[0])
    pair = (lambda weights: 0.0, mean_of(values[chosen]))
    small = Draws(chosen.size, labels[chosen], resamples=400)
    found = bootstrap_interval(
        float(values.mean()),
        paired_bootstrap({"mean": pair}, small)["mean"],
        0.95,
        units=small.smallest(),
        subset_estimate=float(values[chosen].mean()),
        scale=scale,
    )
    assert found.error == pytest.approx(1 / math.sqrt(rows), rel=0.12)  # within the strata
    assert found.low < found.estimate < found.high


def test_subset_keeps_clusters_blocks_and_rare_strata() -> None:
    assert subset(Draws(100), 100) == (None, 1)
    clusters = np.arange(100) // 4
    kept, _ = subset(Draws(100, clusters=clusters), 10)
    assert kept is not None
    assert kept.size == 40
    assert np.unique(clusters[kept]).size == 10
    kept, scale = subset(Draws(1000, block=10), 200)
    assert kept is not None
    assert kept.reshape(-1, 10)[:, 0].tolist() == sorted(set(kept // 10 * 10))
    assert scale == pytest.approx(math.sqrt(0.2))
    rare = np.zeros(1000, int)
    rare[:3] = 1
    kept, _ = subset(Draws(1000, rare), 50)
    assert kept is not None
    assert rare[kept].sum() == 2
