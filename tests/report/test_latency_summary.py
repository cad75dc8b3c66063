from __future__ import annotations

import math

import numpy as np
import pytest

from qtool.report.latency import cost_per_million_rows, summarize


def test_percentiles_of_many_calls_by_hand():
    summary = summarize([float(value) for value in range(10_001)])
    assert (summary.p50, summary.p95, summary.p99, summary.p99_9) == (5000, 9500, 9900, 9990)
    assert (summary.mean, summary.count) == (5000, 10_001)


@pytest.mark.parametrize(
    ("calls", "known"), [(199, 0), (200, 1), (999, 1), (1000, 2), (9999, 2), (10_000, 3)]
)
def test_a_percentile_needs_ten_calls_beyond_it(calls, known):
    summary = summarize(np.ones(calls).tolist())
    tails = [summary.p95, summary.p99, summary.p99_9]
    assert [math.isnan(tail) for tail in tails] == [False] * known + [True] * (3 - known)
    assert summary.p50 == 1


def test_one_call_has_a_median_and_a_mean():
    summary = summarize([3.0])
    assert (summary.p50, summary.mean, summary.count) == (3, 3, 1)


def test_cost_by_hand():
    # 500 us for 10 rows: 50 s for a million, on two cores 100 core seconds of 0.036 an hour.
    assert cost_per_million_rows(500, 10, 2, 0.036) == pytest.approx(0.001)
