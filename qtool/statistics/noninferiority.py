"""Three verdicts: the change is inside its margin, it is not, or there are too few rows to tell.

A worsening is positive when the second model is worse. ``pass`` when the one-sided upper bound of
the worsening is at most the margin, so that a model at the margin passes at most 1 - confidence of
the time; ``fail`` when the lower bound lies above it. Bounds come from ``DeLong.bounds`` and
``bootstrap_bounds``, or are the ends of an interval of confidence ``two_sided(confidence)``.

One margin that every segment must keep needs no correction to pass (Berger 1982, Technometrics
24(4): all must pass at once); where each of k segments may fail the model, each is judged at
1 - (1 - confidence) / k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from qtool.statistics.interval import Interval
from qtool.statistics.proportions import share_lower, share_upper

MOST_ROWS = 10**12


@dataclass(frozen=True)
class Decision:
    """Whether a worsening keeps its margin.

    Attributes:
        verdict: what the bounds say.
        bound: the one-sided bound that decided: the upper one, for ``fail`` the lower one.
        rows_needed: rows that would decide, if the estimate stays; to 2 significant digits, rounded
            up. None when decided, and when no number of rows would: the estimate is the margin
            itself, or is not defined.
    """

    verdict: Literal["pass", "fail", "undecided"]
    bound: float
    rows_needed: int | None = None


def decide_interval(worsening: Interval, margin: float, rows: int) -> Decision:
    """Returns the verdict on a worsening with bounds of any kind.

    Args:
        worsening: its ends are the one-sided bounds; NaN ends decide nothing.
        margin: the largest worsening that passes.
        rows: that it was estimated from.

    Source: the bound approaches the estimate with 1 / sqrt(rows), so that n rows need
    n * ((bound - estimate) / (margin - estimate))², with the bound on the side of the margin.
    """
    if worsening.high <= margin:
        return Decision("pass", worsening.high)
    if worsening.low > margin:
        return Decision("fail", worsening.low)
    distance = margin - worsening.estimate
    width = (worsening.high if distance > 0 else worsening.low) - worsening.estimate
    ratio = width / distance if distance else math.inf
    needed = rows * (ratio * ratio)
    return Decision("undecided", worsening.high, _round_up(needed))


def decide_share(
    hits: int, rows: int, margin: float, confidence: float, effective: float | None = None
) -> Decision:
    """Returns the verdict on a share that should be small, such as that of flipped decisions.

    Args:
        hits: rows that count.
        rows: all, at least 1.
        margin: the largest share that passes, in [0, 1].
        confidence: one-sided, of the exact bounds.
        effective: how many independent rows say as much; None: all stand by themselves.
    """
    effective = rows if effective is None else effective
    worth = effective / rows
    upper = share_upper(hits * worth, effective, confidence)
    if upper <= margin:
        return Decision("pass", upper)
    lower = share_lower(hits * worth, effective, confidence)
    if lower > margin:
        return Decision("fail", lower)
    needed = _rows_for_share(hits / rows, rows, margin, confidence, worth)
    return Decision("undecided", upper, needed)


def _rows_for_share(
    share: float, rows: int, margin: float, confidence: float, worth: float
) -> int | None:
    """Returns the fewest rows, each ``worth`` so much, whose bound at the ``share`` decides."""

    def decided(rows: float) -> bool:
        count = worth * rows
        hits = share * count
        if share < margin:
            return share_upper(hits, count, confidence) <= margin
        return share_lower(hits, count, confidence) > margin

    if share == margin:
        return None
    few, many = rows, 2 * rows
    while not decided(many):
        few, many = many, 2 * many
        if many > MOST_ROWS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if decided(middle) else (middle, many)
    return _round_up(many)


def _round_up(rows: float) -> int | None:
    """Returns ``rows`` rounded up to 2 significant digits; None where there is no such number."""
    if not rows <= MOST_ROWS:  # NaN too
        return None
    whole = math.ceil(rows)
    unit = int(10 ** max(len(str(whole)) - 2, 0))
    return -(-whole // unit) * unit
