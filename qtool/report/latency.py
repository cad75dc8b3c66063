"""The percentiles that stand for thousands of timed calls, and what calls cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAMPLES_BEYOND = 10
"""Calls above a percentile that make it one: of fewer, the largest ones alone decide it."""


@dataclass(frozen=True)
class LatencySummary:
    """Latency of one model at one batch size: microseconds per call, and the number of calls.

    ``p95``, ``p99`` and ``p99_9`` are NaN where fewer than ``SAMPLES_BEYOND`` / (1 - p) calls were
    timed: 200, 1,000 and 10,000.
    """

    p50: float
    p95: float
    p99: float
    p99_9: float
    mean: float
    count: int


def summarize(calls_us: Sequence[float]) -> LatencySummary:
    """Returns percentiles (linear interpolation) and mean of at least one call, microseconds."""
    tails = np.array([0.95, 0.99, 0.999])
    p50, *found = np.quantile(calls_us, [0.5, *tails])
    # Rounded, because 10 / (1 - 0.99) is a little more than 1,000.
    enough = len(calls_us) >= np.round(SAMPLES_BEYOND / (1 - tails))
    p95, p99, p99_9 = np.where(enough, found, np.nan).tolist()
    return LatencySummary(float(p50), p95, p99, p99_9, float(np.mean(calls_us)), len(calls_us))


def cost_per_million_rows(
    call_us: float, batch_size: int, cores: int, price_per_core_hour: float
) -> float:
    """Returns what a million rows cost on cores that do nothing else, in the price's currency.

    Args:
        call_us: latency of one call, microseconds.
        batch_size: rows per call.
        cores: that one call occupies, whether or not it keeps them busy: its threads.
        price_per_core_hour: of one core.
    """
    seconds = call_us / batch_size  # a million rows, and a million microseconds in a second
    return seconds / 3600 * cores * price_per_core_hour
