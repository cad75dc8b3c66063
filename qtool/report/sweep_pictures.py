"""Pictures of many experiments: change within its limit, speed, size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.ticker import FixedLocator, NullLocator

from qtool.evaluation.results import LatencyResult, MetricChange
from qtool.report.change_pictures import share_tick, worsening
from qtool.report.svg import (
    COLORS,
    WIDE,
    beside,
    figure,
    legend,
    name_rows,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import share, times

ROW = 0.24
"""Inches per line of a picture."""
FARTHEST = 3.0
"""Limits from 0 that are shown: one wide interval would hide all others."""
TICKS = (0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 12, 20)
BATCH_COLORS = ("fp32", "int8", "static", "flip", "storage", "dynamic", "float", "ink")


def changes(found: Sequence[tuple[str, MetricChange, float]]) -> str:
    """Returns how much worse a metric of each run is, in units of what its gate allows.

    Args:
        found: name of the run, the metric, the limit.
    """
    drawn = figure(WIDE, 0.8 + ROW * len(found))
    axes = drawn.subplots()
    axes.axvline(0, color=COLORS["ink"], lw=0.8)
    axes.axvline(1, color=COLORS["ink"], lw=1.2, ls="--")
    for place, (_, metric, limit) in enumerate(found):
        change = worsening(metric)
        if not math.isnan(change.low):
            ends = max(change.low / limit, -FARTHEST), min(change.high / limit, FARTHEST)
            axes.hlines(place, *ends, color=COLORS["int8"], lw=2.2)
        axes.plot(change.value / limit, place, "o", ms=5, color=COLORS["int8"])
        beside(axes, place, metric.title)
    name_rows(axes, [name for name, _, _ in found])
    left, right = axes.get_xlim()
    axes.set_xlim(max(left, -FARTHEST), min(right, FARTHEST))
    style(axes, "Worsening, as a share of the limit", "", grid="x")
    return to_svg(drawn, "sweep-changes")


def speedups(found: Sequence[tuple[str, Sequence[LatencyResult]]]) -> str:
    """Returns the speed of INT8 over FP32 of each run, one mark per batch size.

    Args:
        found: name of the run, and its latency.
    """
    drawn = figure(WIDE, 1.0 + ROW * len(found))
    axes = drawn.subplots()
    axes.set_xscale("log")
    axes.axvline(1, color=COLORS["ink"], lw=0.8)
    batches = sorted({result.batch_size for _, latency in found for result in latency})
    for number, batch in enumerate(batches):
        color = COLORS[BATCH_COLORS[number % len(BATCH_COLORS)]]
        label: str | None = f"batch {batch:,}"
        for place, (_, latency) in enumerate(found):
            for result in latency:
                if result.batch_size == batch:
                    axes.hlines(place, result.speedup_low, result.speedup_high, color=color, lw=2)
                    axes.plot(result.speedup, place, "o", ms=5, color=color, label=label)
                    label = None
    for place, (_, latency) in enumerate(found):
        beside(axes, place, times(max(result.speedup for result in latency)))
    name_rows(axes, [name for name, _ in found])
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter(tick_text(times))
    axes.xaxis.set_minor_locator(NullLocator())
    legend(axes)
    style(axes, "Times the speed of FP32", "", grid="x")
    return to_svg(drawn, "sweep-speed")


def sizes(names: Sequence[str], ratios: Sequence[float]) -> str:
    """Returns the share of FP32's file size of each run."""
    drawn = figure(WIDE, 0.8 + ROW * len(names))
    axes = drawn.subplots()
    axes.barh(range(len(names)), ratios, height=0.6, color=COLORS["int8"])
    for place, ratio in enumerate(ratios):
        beside(axes, place, share(ratio))
    name_rows(axes, names)
    axes.set_xlim(0, max(*ratios, 0.3) * 1.05)
    axes.xaxis.set_major_formatter(tick_text(share_tick))
    style(axes, "INT8 file as a share of FP32", "", grid="x")
    return to_svg(drawn, "sweep-size")
