"""Pictures of the clock: latency, throughput, start, and what the speed costs in quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from qtool.evaluation.results import (
    ColdStart,
    Evaluation,
    LatencyResult,
    MetricChange,
    ThroughputResult,
)
from qtool.report.latency import summarize
from qtool.report.svg import (
    COLORS,
    FONT_POINTS,
    HALF,
    WIDE,
    beside,
    figure,
    legend,
    name_rows,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import ABSENT, count, microseconds, times


def latency(evaluation: Evaluation) -> str:
    """Returns per batch size how the calls are distributed: box 25-75 %, line 5-95 %, dot 99 %."""
    results = in_order(evaluation.latency)
    drawn = figure(WIDE, 0.9 + 0.75 * len(results))
    axes = drawn.subplots()
    for place, result in enumerate(results):
        for name, calls_us, y in (
            ("fp32", result.fp32_us, place - 0.18),
            ("int8", result.int8_us, place + 0.18),
        ):
            p5, p25, p50, p75, p95 = np.percentile(calls_us, (5, 25, 50, 75, 95))
            color, label = COLORS[name], name.upper() if place == 0 else None
            axes.hlines(y, p5, p95, color=color, lw=1.2)
            axes.barh(y, p75 - p25, 0.26, p25, color=color, label=label)
            axes.vlines(p50, y - 0.17, y + 0.17, color=COLORS["ink"], lw=1.4)
            axes.plot(summarize(calls_us).p99, y, "o", color=color, ms=3)  # NaN is not drawn
        interval = f"{result.speedup_low:.2f} to {result.speedup_high:.2f}"
        doubt = "" if result.finding == "faster" else f"\n{result.finding}"
        beside(axes, place, f"{times(result.speedup)}\n({interval}){doubt}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(tick_text(lambda us: f"{us:,g}"))
    axes.xaxis.set_minor_formatter(tick_text(_minor_microseconds))
    name_rows(axes, names_of(results))
    style(axes, "Microseconds per call, logarithmic", "", grid="x")
    legend(axes)
    return to_svg(drawn, "latency")


def in_order(latency: Sequence[LatencyResult]) -> list[LatencyResult]:
    """Returns the results by batch size, then threads."""
    return sorted(latency, key=lambda result: (result.batch_size, result.threads))


def names_of(results: Sequence[LatencyResult]) -> list[str]:
    """Returns what tells the results apart."""
    several = len({result.threads for result in results}) > 1
    return [
        f"batch {count(r.batch_size)}{f', threads {r.threads}' if several else ''}" for r in results
    ]


def pareto(evaluation: Evaluation, metric: MetricChange) -> str:
    """Returns the median time per row and the metric of both models, at each batch size."""
    results = in_order(evaluation.latency)
    drawn = figure(HALF, 3.6)
    axes = drawn.subplots()
    ends = (metric.fp32 + metric.low, metric.fp32 + metric.high)
    # Where a metric is not defined on some draws an end is infinite.
    shown = [value for value in (metric.fp32, metric.int8, *ends) if math.isfinite(value)]
    room = 0.35 * (max(shown) - min(shown)) or 0.01 * abs(metric.fp32) or 1e-6
    low, high = min(shown) - room, max(shown) + room
    for place, (result, name) in enumerate(zip(results, names_of(results), strict=True)):
        fp32, int8 = (
            float(np.median(calls)) / result.batch_size
            for calls in (result.fp32_us, result.int8_us)
        )
        first = place == 0
        axes.annotate(
            "",
            (int8, metric.int8),
            (fp32, metric.fp32),
            arrowprops={"arrowstyle": "->", "color": COLORS["float"], "shrinkA": 5, "shrinkB": 5},
        )
        if not math.isnan(ends[0]):
            axes.vlines(int8, max(ends[0], low), min(ends[1], high), color=COLORS["int8"], lw=1.4)
        axes.plot(
            fp32, metric.fp32, "o", ms=8, color=COLORS["fp32"], label="FP32" if first else None
        )
        axes.plot(
            int8, metric.int8, "D", ms=6, color=COLORS["int8"], label="INT8" if first else None
        )
        axes.annotate(
            name,
            (fp32, metric.fp32),
            xytext=(0, 8 + 10 * (place % 2)),  # neighbours may lie on each other
            textcoords="offset points",
            ha="center",
            fontsize=FONT_POINTS - 2,
            color=COLORS["ink"],
        )
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(tick_text(lambda us: f"{us:,g}"))
    axes.xaxis.set_minor_formatter(tick_text(_minor_microseconds))
    axes.set_ylim(low, high)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.locator_params(axis="y", nbins=6)
    style(axes, "Microseconds per row, median, logarithmic", metric.title)
    legend(axes)
    return to_svg(drawn, "pareto")


def throughput(results: Sequence[ThroughputResult]) -> str:
    """Returns the rows per second of both models; right: the ratio with its interval."""
    drawn = figure(HALF, max(0.9 + 0.55 * len(results), 2.4))
    axes = drawn.subplots()
    places = np.arange(len(results))
    for name, rates, shift in (
        ("fp32", [one.fp32 for one in results], -0.2),
        ("int8", [one.int8 for one in results], 0.2),
    ):
        axes.barh(places + shift, rates, 0.4, color=COLORS[name], label=name.upper())
    for place, one in enumerate(results):
        beside(axes, place, f"{times(one.ratio)}\n({one.low:.2f} to {one.high:.2f})")
    name_rows(axes, [f"batch {count(one.batch_size)}, {one.sessions} at once" for one in results])
    axes.xaxis.set_major_formatter(tick_text(_short))
    axes.locator_params(axis="x", nbins=4)
    style(axes, "Rows per second", "", grid="x")
    legend(axes)
    return to_svg(drawn, "throughput")


def cold(starts: Sequence[ColdStart]) -> str:
    """Returns the time to load, the first call and the memory of a fresh process, as bars."""
    drawn = figure(WIDE, 1.0 + 0.3 * len(starts))
    parts: tuple[tuple[str, list[float], Callable[[float], str]], ...] = (
        ("Load, ms", [one.load_ms for one in starts], "{:.3g}".format),
        ("First call, µs", [one.first_us for one in starts], microseconds),
        ("Peak memory, MB", [(one.peak_bytes or 0) / 1e6 for one in starts], _megabytes),
    )
    places = drawn.subplots(1, 3, gridspec_kw={"wspace": 0.1})
    for axes, (title, values, text) in zip(places, parts, strict=True):
        for place, (start, value) in enumerate(zip(starts, values, strict=True)):
            axes.barh(place, value, 0.6, color=COLORS["int8" if start.model == "int8" else "fp32"])
            beside(axes, place, text(value))
        name_rows(axes, [one.model.upper() for one in starts])
        axes.locator_params(axis="x", nbins=4)
        style(axes, title, "", grid="x")
    return to_svg(drawn, "cold")


def _megabytes(value: float) -> str:
    return f"{value:.3g}" if value else ABSENT  # only Linux tells


def _short(value: float) -> str:
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def _minor_microseconds(value: float) -> str:
    """Returns text for 2 and 5 of a decade only, so that labels do not run into each other."""
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""
