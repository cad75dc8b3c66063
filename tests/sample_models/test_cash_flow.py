from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.generators import cash_machines
from sample_models.prepare.cash_flow import without_gaps

PAST, AHEAD = cash_machines.PAST, cash_machines.AHEAD


@pytest.fixture
def forecaster():
    inputs = {"history": {"shape": [PAST]}, "calendar": {"shape": [2]}}
    return built("cash_flow", inputs, days=AHEAD, quantiles=3, channels=8, layers=3)


def test_forecasts_grow_with_the_history(forecaster):
    history, calendar = torch.rand(4, PAST) + 0.5, torch.randn(4, 2)
    with torch.no_grad():
        forecast = forecaster(history, calendar)
        assert forecast.shape == (4, AHEAD * 3)
        torch.testing.assert_close(forecaster(10 * history, calendar), 10 * forecast)
        assert torch.isfinite(forecaster(0 * history, calendar)).all()


def test_without_what_was_learned_the_forecast_is_the_mean_of_the_weekday(forecaster):
    torch.nn.init.zeros_(forecaster.head.weight)
    torch.nn.init.zeros_(forecaster.head.bias)
    weeks = torch.arange(PAST // 7)[:, None] + 10.0 * torch.arange(7)
    history = weeks.reshape(1, PAST)
    with torch.no_grad():
        forecast = forecaster(history, torch.zeros(1, 2)).reshape(AHEAD, 3)
    expected = ((PAST // 7 - 1) / 2 + 10.0 * torch.arange(7)).repeat(AHEAD // 7)
    torch.testing.assert_close(forecast, expected[:, None].expand(AHEAD, 3))


def test_gaps_get_the_same_weekday_of_the_week_before():
    amounts = np.arange(21.0)[:, None].repeat(2, axis=1)
    amounts[[2, 10, 17], 0] = np.nan
    filled = without_gaps(amounts)
    assert np.isnan(amounts).sum() == 3
    # Day 2 is in the first week, day 17 follows a gap that was filled with day 3.
    assert filled[[2, 10, 17], 0].tolist() == [9, 3, 3]
    known = ~np.isnan(amounts)
    np.testing.assert_array_equal(filled[known], amounts[known])


def test_cash_flow_reads_the_monash_file_and_a_wide_table_alike(monkeypatch, tmp_path):
    days = PAST + AHEAD + 3
    amounts = np.random.default_rng(0).random((days, 2)).round(3)
    series = [[str(amount) for amount in one] for one in amounts.T]
    series[1][9] = "?"
    lines = ["# a comment", "@relation NN5", "@frequency daily", "@data"]
    lines += [f"T{i}:1996-03-18 00-00-00:{','.join(one)}" for i, one in enumerate(series, 1)]
    (tmp_path / "nn5.tsf").write_text("\n".join(lines) + "\n")
    found = prepared(monkeypatch, tmp_path, "cash_flow", tmp_path / "nn5.tsf")
    assert found.schema.equals(cash_machines.SCHEMA)
    assert found["machine"].to_pylist() == ["T1", "T2"]
    assert found["history"][1].as_py()[9 - 3] == np.float32(amounts[9 - 7, 1])

    wide = {"date": np.datetime64("1996-03-18", "us") + np.arange(days) * np.timedelta64(1, "D")}
    for number, one in enumerate(series, 1):
        wide[f"T{number}"] = [None if text == "?" else float(text) for text in one]
    pq.write_table(pa.table(wide), tmp_path / "wide.parquet")
    other = prepared(monkeypatch, tmp_path, "cash_flow", tmp_path / "wide.parquet")
    assert other.equals(found)
