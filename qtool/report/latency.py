"""The percentiles that stand for thousands of timed calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one model at one batch size: microseconds per call, and the number of calls."""

    p50: float
    p95: float
    p99: float
    mean: float
    count: int


def summarize(calls_us: Sequence[float]) -> LatencySummary:
    """Returns percentiles (linear interpolation) and mean of at least one call, microseconds."""
    p50, p95, p99 = np.percentile(calls_us, (50, 95, 99)).tolist()
    return LatencySummary(p50, p95, p99, float(np.mean(calls_us)), len(calls_us))
