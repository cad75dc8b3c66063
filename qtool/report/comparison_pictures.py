"""Pictures of several runs: speed against quality, and the change of one metric in each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtool.evaluation.results import LatencyResult, MetricChange
from qtool.report.change_pictures import share_tick, worsening
from qtool.report.svg import (
    COLORS,
    FONT_POINTS,
    HALF,
    WIDE,
    beside,
    figure,
    name_rows,
    shown_label,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import interval, signed

LARGEST_MARK = 400.0  # square points


def pareto(
    names: Sequence[str],
    timing: Sequence[LatencyResult],
    metrics: Sequence[MetricChange],
    sizes_bytes: Sequence[int],
    hollow: Sequence[bool],
) -> str:
    """Returns the latency ratio and the worsening of a metric, one mark per run.

    Args:
        names: of the runs.
        timing: latency of each, at the same batch size and threads.
        metrics: the same metric of each.
        sizes_bytes: INT8 file size of each; the area of its mark.
        hollow: runs whose mark is not filled.
    """
    drawn = figure(WIDE, 4.2)
    axes = drawn.subplots()
    axes.axhline(0, color=COLORS["ink"], lw=0.8)
    for place, (name, time, metric) in enumerate(zip(names, timing, metrics, strict=True)):
        change, ratio = worsening(metric), 1 / time.speedup
        axes.hlines(change.value, 1 / time.speedup_high, 1 / time.speedup_low, COLORS["float"])
        if not math.isnan(change.low):
            axes.vlines(ratio, change.low, change.high, COLORS["float"])
        axes.scatter(
            ratio,
            change.value,
            LARGEST_MARK * sizes_bytes[place] / max(sizes_bytes),
            facecolors="none" if hollow[place] else COLORS["int8"],
            edgecolors=COLORS["int8"],
            alpha=0.8,
            zorder=3,
        )
        axes.annotate(
            shown_label(name),
            (ratio, change.value),
            xytext=(14, 6),
            textcoords="offset points",
            fontsize=FONT_POINTS - 1,
            color=COLORS["ink"],
            parse_math=False,
        )
    axes.margins(x=0.2, y=0.15)
    axes.xaxis.set_major_formatter(tick_text(share_tick))
    axes.locator_params(axis="x", nbins=7)
    style(axes, "Time of INT8 as a share of FP32", f"{metrics[0].title}: how much worse")
    return to_svg(drawn, "pareto")


def changes_by_run(names: Sequence[str], metrics: Sequence[MetricChange]) -> str:
    """Returns how much worse INT8 is in each run; right: INT8 minus FP32."""
    drawn = figure(HALF, max(0.9 + 0.34 * len(names), 1.8))
    axes = drawn.subplots()
    axes.axvline(0, color=COLORS["ink"], lw=0.8)
    for place, metric in enumerate(metrics):
        change = worsening(metric)
        if not math.isnan(change.low):
            axes.hlines(place, change.low, change.high, color=COLORS["int8"], lw=2.2)
        axes.plot(change.value, place, "o", ms=6, color=COLORS["int8"])
        ends = interval(metric.low, metric.high)
        beside(axes, place, f"{signed(metric.change)}\n({ends})" if ends else signed(metric.change))
    name_rows(axes, names)
    axes.locator_params(axis="x", nbins=4)
    style(axes, "Worsening", "", grid="x")
    return to_svg(drawn, f"change-{metrics[0].name}")
