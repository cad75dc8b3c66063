from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.monthly_series import (
    AHEAD,
    PAST,
    SCHEMA,
    SERIES,
    YEAR,
    MonthlySeries,
    make_panel,
    window_batch,
)
from qtool.data.source import open_source

MONTHS = 154


def table(source: MonthlySeries, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


def smape(actual, forecast):
    # Makridakis and Hibon 2000, in percent.
    return np.mean(200 * np.abs(actual - forecast) / (actual + forecast))


@pytest.fixture(scope="module")
def panel():
    return make_panel(7, MONTHS).astype(np.float64)


def test_a_config_opens_it():
    section = GeneratorSource(generator="monthly_series", rows=10, seed=3)
    source = open_source(section)
    assert source == MonthlySeries(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(50, 900), rows=st.integers(1, 900))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = MonthlySeries(rows, seed=7)
    batches = list(source.batches(["series", "future"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["series", "future"]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [MonthlySeries(10, 7), MonthlySeries(11, 7), MonthlySeries(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_windows_follow_each_other_month_by_month():
    rows = 2 * SERIES
    values = make_panel(7, PAST + AHEAD + 1)
    made = table(MonthlySeries(rows, seed=7)).to_pylist()
    assert [made[0]["month"], made[SERIES]["month"]] == [PAST - 1, PAST]
    assert made[0]["series"] == made[SERIES]["series"] == "series 1"
    np.testing.assert_array_equal(made[0]["history"] + made[0]["future"], values[:-1, 0])
    np.testing.assert_array_equal(made[-1]["history"] + made[-1]["future"], values[1:, -1])


def test_the_place_in_the_year():
    windows = np.zeros((2, PAST + AHEAD), np.float32)
    batch = window_batch(["a", "b"], np.array([5, 6]), np.array([0, 3]), windows)
    found = [(row["year_sin"], row["year_cos"]) for row in batch.to_pylist()]
    assert found == [pytest.approx((0, 1)), pytest.approx((1, 0), abs=1e-6)]


def test_statistics_are_those_of_the_docstring(panel):
    change = np.diff(np.log(panel), axis=0).std(axis=0)
    low, median, high = np.quantile(change, [0.05, 0.5, 0.95])
    assert median == pytest.approx(0.10, abs=0.02)
    assert low == pytest.approx(0.015, abs=0.01)
    assert high == pytest.approx(0.67, abs=0.2)
    years = np.log(panel[: 12 * YEAR]).reshape(12, YEAR, SERIES)
    profile = (years - years.mean(axis=1, keepdims=True)).mean(axis=0).std(axis=0)
    assert np.median(profile) == pytest.approx(0.05, abs=0.01)


def test_it_is_as_hard_to_forecast_as_m3(panel):
    last, year = [], []
    for first in range(60, MONTHS - AHEAD, 6):
        known, future = panel[:first], panel[first : first + AHEAD]
        again = known[-YEAR:]
        last.append(smape(future, known[-1]))
        year.append(smape(future, np.concatenate([again, again])[:AHEAD]))
    assert np.mean(last) == pytest.approx(17, abs=1.5)
    assert np.mean(year) == pytest.approx(17, abs=1.5)
