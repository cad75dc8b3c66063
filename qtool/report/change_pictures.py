"""Pictures of changes with their intervals: of metrics, by segment and group, under attack."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from qtool.evaluation.results import (
    Evaluation,
    ImpactRatio,
    MetricChange,
    ReasonStability,
    SegmentChange,
    StressResult,
)
from qtool.report.group_tables import by_drop
from qtool.report.svg import (
    COLORS,
    FONT_POINTS,
    HALF,
    WIDE,
    beside,
    both_lines,
    figure,
    legend,
    name_rows,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import count, interval, number, share, signed

FARTHEST = 4.0  # margins, or medians; what lies beyond is drawn as an arrow at the end
SEGMENTS = 30
REASONS = 12
FOUR_FIFTHS = 0.8
ROW = 0.3  # inches


@dataclass(frozen=True)
class Worsening:
    """How much worse INT8 is, with its interval (NaN without one), in one unit for all rows."""

    low: float
    value: float
    high: float

    def times(self, factor: float) -> Worsening:
        """Returns the same in another unit."""
        return Worsening(self.low * factor, self.value * factor, self.high * factor)


def worsening(metric: MetricChange) -> Worsening:
    """Returns the change of a metric so that positive is worse."""
    if metric.better == "lower":
        return Worsening(metric.low, metric.change, metric.high)
    return Worsening(-metric.high, -metric.change, -metric.low)


def margin_of(evaluation: Evaluation, metric: str) -> float | None:
    """Returns the margin of the gate on a metric's drop, else on its change; None without one."""
    limits = {gate.name: gate.limit for gate in evaluation.gates}
    found = limits.get(f"{metric}_drop", limits.get(f"{metric}_change"))
    return found if found is not None and found > 0 else None


def metrics(evaluation: Evaluation) -> str:
    """Returns a forest plot: each metric's change and interval in units of its margin.

    Metrics without a margin stand below, each in units of its own interval.
    """
    shown = [metric for metric in evaluation.metrics if not math.isnan(metric.change)]
    margins = {metric.name: margin_of(evaluation, metric.name) for metric in shown}
    gated = [metric for metric in shown if margins[metric.name] is not None]
    free = [metric for metric in shown if margins[metric.name] is None]
    groups = [group for group in (gated, free) if group]
    drawn = figure(WIDE, 0.5 * len(groups) + 0.3 + ROW * len(shown))
    heights = [len(group) + 0.4 for group in groups]
    for axes, group in zip(
        drawn.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0],
        groups,
        strict=True,
    ):
        scaled = [_scaled(metric, margins[metric.name]) for metric in group]
        reach = max((abs(end) for one in scaled for end in _ends(one)), default=1.0)
        end = min(max(1.1 * reach, 1.35), FARTHEST)
        axes.axvline(0, color=COLORS["ink"], lw=0.8)
        if group is gated:
            axes.axvspan(1, end, color=COLORS["flip"], alpha=0.12, lw=0)
            axes.axvline(1, color=COLORS["flip"], lw=1, dashes=(4, 2))
        for place, (metric, one) in enumerate(zip(group, scaled, strict=True)):
            _whisker(axes, place, one, (-end, end), COLORS["int8"])
            beside(axes, place, _in_words(metric, margins[metric.name]))
        name_rows(axes, [metric.title for metric in group])
        axes.set_xlim(-end, end)
        if group is gated:
            style(axes, "Margins by which INT8 is worse (1: the limit of the gate)", "", grid="x")
        else:
            axes.set_xticks([-1, 0, 1], ["better", "equal", "worse"])
            style(axes, "No margin is set: each on a scale of its own", "", grid="x")
    return to_svg(drawn, "metrics")


def _scaled(metric: MetricChange, margin: float | None) -> Worsening:
    found = worsening(metric)
    unit = max((abs(end) for end in _ends(found)), default=0.0) if margin is None else margin
    return found.times(1 / unit) if unit else found


def _ends(one: Worsening) -> list[float]:
    return [end for end in (one.low, one.value, one.high) if math.isfinite(end)]


def _in_words(metric: MetricChange, margin: float | None) -> str:
    ends = interval(metric.low, metric.high)
    text = f"{signed(metric.change)} ({ends})" if ends else signed(metric.change)
    return text if margin is None else f"{text}\nmargin {number(margin)}"


def _whisker(
    axes: Axes, place: float, one: Worsening, limits: tuple[float, float], color: str
) -> None:
    """One dot and its interval; an arrow says that something lies beyond the axes."""
    first, last = limits
    low, high = (min(max(x, first), last) for x in (one.low, one.high))
    if math.isfinite(one.low) and math.isfinite(one.high):
        axes.hlines(place, low, high, color=color, lw=2.2)
    for beyond, at, marker in (
        (max(_ends(one), default=0) > last, last, ">"),
        (min(_ends(one), default=0) < first, first, "<"),
    ):
        if beyond:
            axes.plot(at, place, marker, ms=7, color=color, clip_on=False)
    if first <= one.value <= last:
        axes.plot(one.value, place, "o", ms=6, color=color)


def segments(evaluation: Evaluation) -> str:
    """Returns the change of the first metric per segment, the worst first."""
    shown = [one for one in by_drop(evaluation.segments) if not math.isnan(one.metric.drop)]
    shown = shown[:SEGMENTS]
    drawn = figure(WIDE, 0.9 + 0.8 * ROW * len(shown))
    axes = drawn.subplots()
    changes = [worsening(one.metric) for one in shown]
    axes.axvline(0, color=COLORS["ink"], lw=0.8)
    limits = [gate.limit for gate in evaluation.gates if gate.name == "worst_segment_drop"]
    low, high = _reach(changes, limits)
    room = 0.05 * (high - low) or 1e-6
    for limit in limits:
        axes.axvspan(limit, high + room, color=COLORS["flip"], alpha=0.12, lw=0)
        axes.axvline(limit, color=COLORS["flip"], lw=1, dashes=(4, 2))
    for place, (segment, one) in enumerate(zip(shown, changes, strict=True)):
        _whisker(axes, place, one, (low, high), COLORS["int8"])
        beside(axes, place, f"{count(segment.rows)} rows{_flips(segment)}")
    name_rows(axes, [f"{one.column} {one.value}" for one in shown])
    axes.set_xlim(low - room, high + room)
    axes.locator_params(axis="x", nbins=7)
    style(axes, f"{shown[0].metric.title}: how much worse INT8 is", "", grid="x")
    return to_svg(drawn, "segments")


def _reach(changes: Sequence[Worsening], limits: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of the axis: a few wide intervals of small segments do not stretch it."""
    widest = FARTHEST * float(np.median([max(map(abs, _ends(one))) for one in changes]))
    inside = [min(max(end, -widest), widest) for one in changes for end in _ends(one)]
    every = [0.0, *limits, *(one.value for one in changes), *inside]
    return min(every), max(every)


def _flips(segment: SegmentChange) -> str:
    return "" if segment.flips is None else f", {count(segment.flips)} changed"


def fairness(groups: Sequence[ImpactRatio]) -> str:
    """Returns the adverse impact ratio of each group; shaded: below four fifths."""
    groups = [one for one in groups if not math.isnan(one.fp32 + one.int8)]
    drawn = figure(HALF, max(0.9 + ROW * len(groups), 2.2))
    axes = drawn.subplots()
    places = range(len(groups))
    axes.axvspan(0, FOUR_FIFTHS, color=COLORS["flip"], alpha=0.12, lw=0)
    axes.axvline(FOUR_FIFTHS, color=COLORS["flip"], lw=1, dashes=(4, 2))
    axes.plot([one.fp32 for one in groups], places, "o", ms=8, color=COLORS["fp32"], label="FP32")
    for place, one in zip(places, groups, strict=True):
        if not math.isnan(one.low):
            axes.hlines(place, one.fp32 + one.low, one.fp32 + one.high, color=COLORS["int8"], lw=2)
    axes.plot([one.int8 for one in groups], places, "D", ms=4, color=COLORS["int8"], label="INT8")
    name_rows(axes, [f"{one.column} {one.group}" for one in groups])
    values = [value for one in groups for value in (one.fp32, one.int8)]
    axes.set_xlim(min(*values, 0.75) - 0.05, max(*values, 1.0) + 0.05)
    style(axes, "Adverse impact ratio", "", grid="x")
    legend(axes)
    return to_svg(drawn, "fairness")


def reasons(found: ReasonStability) -> str:
    """Returns how often each model names a column, the most frequent first."""
    columns = sorted(found.columns.items(), key=lambda item: -max(item[1]))[:REASONS]
    drawn = figure(HALF, max(0.9 + 0.9 * ROW * len(columns), 2.2))
    axes = drawn.subplots()
    places = np.arange(len(columns))
    for model, shift, name in ((0, -0.2, "fp32"), (1, 0.2, "int8")):
        rows = [counts[model] for _, counts in columns]
        axes.barh(places + shift, rows, 0.4, color=COLORS[name], label=name.upper())
    name_rows(axes, [name for name, _ in columns])
    axes.locator_params(axis="x", integer=True, nbins=5)
    style(axes, "Rows that it explains", "", grid="x")
    legend(axes)
    return to_svg(drawn, "reasons")


def robustness(results: Sequence[StressResult]) -> str:
    """Returns per attack or stress the share of decisions it turns, by its level.

    Of tasks without decisions the metric, from that of the rows as they are (level 0) on. The bar
    at INT8 is the interval of the difference.
    """
    before = [one for one in results if not one.level]
    results = [one for one in results if one.level]
    kinds = list(dict.fromkeys(one.kind for one in results))
    turned = not any(math.isnan(one.difference) for one in results)
    title = "Decisions turned" if turned else results[0].metric.title
    columns = min(len(kinds), 3)
    rows = math.ceil(len(kinds) / columns)
    drawn = figure(WIDE, 0.4 + 2.2 * rows)
    places = drawn.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, kind in zip(places, kinds, strict=False):
        shown = sorted((one for one in results if one.kind == kind), key=lambda one: one.level)
        shown = shown if turned else [*before, *shown]
        _stress(axes, shown, turned=turned)
        axes.set_title(
            kind.replace("_", " "), loc="left", color=COLORS["ink"], fontsize=FONT_POINTS
        )
    if turned:
        places[0].set_ylim(bottom=0)  # after all are drawn: the axis is shared
    for axes in places[len(kinds) :]:
        axes.set_visible(False)
    for axes in places[::columns]:
        axes.set_ylabel(title, color=COLORS["ink"], fontsize=FONT_POINTS)
    handles, labels = places[0].get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="outside upper left", ncols=2, frameon=False,
        fontsize=FONT_POINTS - 1, labelcolor=COLORS["ink"],
    )  # fmt: skip
    return to_svg(drawn, "robustness")


def _stress(axes: Axes, shown: Sequence[StressResult], *, turned: bool) -> None:
    levels = [one.level for one in shown]
    if turned:
        found = [
            (one.succeeded_fp32 / one.rows, one.succeeded_int8 / one.rows, one.low, one.high)
            for one in shown
        ]
    else:
        metrics = [one.metric for one in shown]
        found = [(metric.fp32, metric.int8, metric.low, metric.high) for metric in metrics]
    both_lines(axes, levels, np.array(found))
    axes.set_xticks(levels, [f"{level:g}" for level in levels])
    if turned:
        axes.yaxis.set_major_formatter(tick_text(share_tick))
    style(axes, "Level", "")


def share_tick(value: float) -> str:
    """Returns a share as the text of a tick."""
    return "0" if value == 0 else share(value) if abs(value) < 0.01 else f"{100 * value:g} %"
