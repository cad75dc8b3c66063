"""Enough rows: calibration goes on with more of them until no range moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from qtool.calibration.calibrate import Statistics, merged, ranges
from qtool.graph.parameters import Range
from qtool.graph.plan import Plan
from qtool.numerics.observers import Observe
from qtool.numerics.tensor_statistics import BLOCK_ROWS

FIRST_ROWS = 8 * BLOCK_ROWS
"""Rows of the first sample; each next one has twice as many."""
TOLERANCE = 0.01
"""Share of its width that a range may move: 2.5 steps of 255, which the next rows will not undo."""


@dataclass(frozen=True)
class Check:
    """What the last rows changed.

    Attributes:
        rows: rows seen.
        largest_change: how far an end of a range has moved, as a share of the range's width, since
            the check before; of all tensors and columns the most. None at the first check.
        tensor: where that was; empty at the first check.
    """

    rows: int
    largest_change: float | None
    tensor: str


def sample_sizes(available: int) -> list[int]:
    """Returns how many rows have been seen at each check, at most: all ``available`` in the end."""
    sizes = []
    rows = FIRST_ROWS
    while rows < available:
        sizes.append(rows)
        rows *= 2
    return [*sizes, available]


def until_stable(
    plan: Plan, shards: Iterable[tuple[int, Statistics]], observer: Observe
) -> tuple[Statistics, tuple[Check, ...]]:
    """Returns the statistics of as many shards as it takes, and what each check found.

    Args:
        plan: whose activations are observed.
        shards: rows and their statistics, one after the other; those that are not needed are not
            asked for.
        observer: gives the ranges that must not move by more than ``TOLERANCE``.
    """
    statistics: Statistics = {}
    before: dict[str, Range] = {}
    checks: list[Check] = []
    for rows, shard in shards:
        statistics = merged(statistics, shard) if statistics else shard
        now = ranges(plan, statistics, observer)
        seen = rows + (checks[-1].rows if checks else 0)
        checks.append(_check(seen, before, now))
        change = checks[-1].largest_change
        if change is not None and change <= TOLERANCE:
            break
        before = now
    return statistics, tuple(checks)


def _check(rows: int, before: Mapping[str, Range], now: Mapping[str, Range]) -> Check:
    return Check(rows, *largest_change(before, now)) if before else Check(rows, None, "")


def largest_change(before: Mapping[str, Range], now: Mapping[str, Range]) -> tuple[float, str]:
    """Returns the largest ``change`` of all tensors, and the tensor."""
    changes = {name: change(before[name], now[name]) for name in before}
    tensor = max(changes, key=lambda name: changes[name])
    return changes[tensor], tensor


def change(before: Range, now: Range) -> float:
    """Returns how far an end has moved as a share of the width now; of all columns the most."""
    moved = np.maximum(np.abs(now.low - before.low), np.abs(now.high - before.high))
    width = np.maximum(now.high, before.high) - np.minimum(now.low, before.low)
    shares = np.divide(moved, width, out=np.zeros_like(width), where=width > 0)
    return float(shares.max())
