from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.market_regimes import (
    DAYS,
    FEATURES,
    SCHEMA,
    START,
    STRIDE,
    WINDOWS,
    MarketRegimes,
    make_asset,
    windows_of,
)
from qtool.data.source import open_source


def table(source: MarketRegimes, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def assets():
    made = [make_asset(7, asset, 1000) for asset in range(60)]
    return np.stack([features for features, _ in made]), np.stack([r for _, r in made])


def test_a_config_opens_it():
    source = open_source(GeneratorSource(generator="market_regimes", rows=10, seed=3))
    assert source == MarketRegimes(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(20, 500), rows=st.integers(1, 500))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    batches = list(MarketRegimes(rows, 7).batches(["asset", "window"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(MarketRegimes(600, 7)).select(["asset", "window"]).slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [MarketRegimes(10, 7), MarketRegimes(11, 7), MarketRegimes(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_windows_of_days_that_are_counted():
    days = DAYS + 7
    features = np.arange(days, dtype=np.float32)[:, None] + np.array([0, 1000, 2000, 3000])
    dates = START + np.arange(days)
    made = windows_of("a", dates, features.astype(np.float32), np.arange(days), stride=5)
    rows = made.to_pylist()
    assert [row["regime"] for row in rows] == [DAYS + 1, days - 1]
    for row in rows:
        assert row["date"] == dates[row["regime"]].item()
        assert row["window"][-1] == [row["regime"] + 1000 * feature for feature in range(4)]
        assert row["window"][0][0] == row["regime"] - DAYS + 1


def test_assets_have_the_same_days_and_follow_each_other():
    made = table(MarketRegimes(2 * WINDOWS, seed=7))
    dates = made["date"].to_numpy().reshape(2, WINDOWS)
    np.testing.assert_array_equal(dates[0], dates[1])
    assert (np.busday_count(dates[0][:-1], dates[0][1:]) == STRIDE).all()
    assert made["asset"].to_pylist() == ["asset 1"] * WINDOWS + ["asset 2"] * WINDOWS


def test_statistics_are_those_of_the_docstring(assets):
    features, regimes = assets
    shares = np.bincount(regimes.reshape(-1)) / regimes.size
    assert shares == pytest.approx([0.40, 0.50, 0.10], abs=0.04)
    flat = dict(zip(FEATURES, features.reshape(-1, len(FEATURES)).T, strict=True))
    crisis = regimes.reshape(-1) == 2
    deviations = [np.std(values) for values in flat.values()]
    assert deviations == pytest.approx([0.58, 0.84, 0.52, 0.42], abs=0.05)
    assert flat["log_range"][crisis].mean() == pytest.approx(0.69, abs=0.08)
    assert flat["log_range"][regimes.reshape(-1) == 0].mean() == pytest.approx(-0.36, abs=0.06)
    low, high = np.quantile(flat["intraday"], [0.01, 0.99])
    assert (low, high) == (pytest.approx(-2.3, abs=0.25), pytest.approx(2.1, abs=0.25))
    both = np.corrcoef(flat["log_range"], flat["log_volume"])[0, 1]
    assert both == pytest.approx(0.55, abs=0.05)
    ranges = features[:, :, FEATURES.index("log_range")]
    next_day = np.corrcoef(ranges[:, :-1].ravel(), ranges[:, 1:].ravel())[0, 1]
    assert next_day == pytest.approx(0.48, abs=0.05)
