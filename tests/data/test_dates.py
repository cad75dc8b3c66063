from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.data.dates import MOST_PERIODS, period_names


def span(start: str, count: int, unit: str) -> np.ndarray:
    return np.datetime64(start, unit) + np.arange(count)


def named(times: np.ndarray) -> list[str]:
    return list(dict.fromkeys(period_names(times).tolist()))


@pytest.mark.parametrize(
    ("times", "first", "count"),
    [
        (span("2026-01-30", 12, "D"), "2026-01-30", 12),
        (span("2026-01-30", 3, "D").astype("datetime64[us]"), "2026-01-30", 3),
        (span("2026-01-30T23:59", 3, "m").astype("datetime64[ns]"), "2026-01-30T23:59", 3),
        (span("2026-01-30T10:59", 60, "m"), "2026-01-30T10", 2),
        (span("2026-01-30T10:59", 9 * 24 * 60, "m"), "2026-01-30", 10),
        (span("2026-01-30", 13, "D"), "2026-01", 2),
        (span("2026-01-30", 366, "D"), "2026-Q1", 5),
        (span("1969-12", 13, "M"), "1969-Q4", 5),
        (span("1966-12", 12 * 5, "M"), "1966", 6),
        (span("1931-12-31", 80, "Y"), "1930s", 9),
        (span("1700", 300, "Y"), "1700s", 30),
    ],
)
def test_the_finest_period_of_which_there_are_few(times, first, count) -> None:
    found = named(times)
    assert (found[0], len(found)) == (first, count)
    assert found == sorted(found)


def test_rows_without_a_time_are_missing() -> None:
    times = np.array(["2026-01-02", "NaT", "2026-01-03"], "datetime64[D]")
    assert period_names(times).tolist() == ["2026-01-02", "missing", "2026-01-03"]
    assert period_names(times[1:2]).tolist() == ["missing"]
    assert period_names(times[:0]).tolist() == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5 * 10**9, 5 * 10**9), min_size=1, max_size=60))
def test_names_are_few_and_in_the_order_of_time(seconds: list[int]) -> None:
    times = np.array(sorted(seconds), "datetime64[s]")
    names = period_names(times).tolist()
    assert names == sorted(names)
    assert len(set(names)) <= MOST_PERIODS or all(name.endswith("0s") for name in names)
    for name, time in zip(names, times.astype(str), strict=True):
        assert name[:3] == time[:3]
