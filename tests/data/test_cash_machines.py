from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.cash_machines import (
    AHEAD,
    MACHINES,
    PAST,
    SCHEMA,
    START,
    STRIDE,
    CashMachines,
    make_panel,
    window_batches,
)
from qtool.data.source import open_source

DAYS = 791  # as NN5 has
WEEK = 7


def table(source: CashMachines, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


def smape(actual, forecast):
    # Makridakis and Hibon 2000, M3: in percent, no term where both are 0.
    total = np.maximum(np.abs(actual) + np.abs(forecast), 1e-9)
    return 100 * np.mean(2 * np.abs(actual - forecast) / total)


@pytest.fixture(scope="module")
def panel():
    return make_panel(7, DAYS)


def test_a_config_opens_it():
    section = GeneratorSource(generator="cash_machines", rows=10, seed=3)
    source = open_source(section)
    assert source == CashMachines(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(50, 5_000), rows=st.integers(1, 5_000))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = CashMachines(rows, seed=7)
    batches = list(source.batches(["machine", "future"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["machine", "future"]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [CashMachines(10, 7), CashMachines(11, 7), CashMachines(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_windows_of_a_panel_that_counts_its_days():
    days = PAST + AHEAD + 5
    amounts = np.arange(days, dtype=np.float32)[:, None] + np.array([0, 1000], np.float32)
    dates = START + np.arange(days)
    (batch,) = window_batches(["a", "b"], dates, amounts, stride=5)
    rows = batch.to_pylist()
    assert [(row["machine"], row["history"][0], row["history"][-1]) for row in rows] == [
        ("a", 0, PAST - 1),
        ("b", 1000, 1000 + PAST - 1),
        ("a", 5, PAST + 4),
        ("b", 1005, 1000 + PAST + 4),
    ]
    for row in rows:
        assert row["future"] == [row["history"][-1] + ahead for ahead in range(1, AHEAD + 1)]
        assert row["date"] == dates[int(row["history"][-1]) % 1000].item()
        assert row["month"] == f"{row['date'].month:02}"
        angle = 2 * np.pi * (row["date"].timetuple().tm_yday - 1) / 365.25
        assert (row["year_sin"], row["year_cos"]) == pytest.approx((np.sin(angle), np.cos(angle)))
    assert rows[-1]["future"][-1] == 1000 + days - 1  # no day is left over at the end


def test_windows_end_on_all_weekdays_in_the_order_of_time():
    made = table(CashMachines(8 * MACHINES, seed=7))
    dates = made["date"].to_numpy()
    assert (np.diff(dates.astype(int)) >= 0).all()
    assert len({day.astype(int) % WEEK for day in dates}) == WEEK
    assert np.unique(np.diff(np.unique(dates).astype(int))).tolist() == [STRIDE]


def test_statistics_are_those_of_the_docstring(panel):
    relative = panel / panel.mean(axis=0)
    assert panel.mean() == pytest.approx(19, abs=2)
    low, high = np.percentile(panel.mean(axis=0), [1, 99])
    assert (low, high) == (pytest.approx(10, abs=2), pytest.approx(37, abs=6))
    weekdays = [relative[day::WEEK].mean() for day in range(WEEK)]
    assert weekdays[3] == pytest.approx(1.5, abs=0.06)
    assert weekdays[5] == pytest.approx(0.68, abs=0.05)
    assert (panel == 0).mean() == pytest.approx(0.005, abs=0.001)
    week_before = [
        np.corrcoef(one[:-WEEK], one[WEEK:])[0, 1] for one in np.ascontiguousarray(relative.T)
    ]
    assert np.mean(week_before) == pytest.approx(0.6, abs=0.06)


def test_it_is_as_hard_to_forecast_as_nn5(panel):
    naive, mean = [], []
    for last in range(200, DAYS - AHEAD, 20):
        known, future = panel[: last + 1], panel[last + 1 : last + 1 + AHEAD]
        weeks = known[-8 * WEEK :].reshape(8, WEEK, MACHINES)
        naive.append(smape(future, np.tile(weeks[-1], (8, 1))))
        mean.append(smape(future, np.tile(weeks.mean(axis=0), (8, 1))))
    assert np.mean(naive) == pytest.approx(32, abs=2)
    assert np.mean(mean) == pytest.approx(24, abs=2)
