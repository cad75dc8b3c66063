"""Pictures of the model: latency, size, and what became of its nodes."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import numpy as np

from qtool.evaluation.results import Evaluation
from qtool.graph.plan import Treatment
from qtool.report.svg import COLORS, FONT_POINTS, figure, legend, style, tick_text, to_svg
from qtool.report.text import count, file_size, share, times

OPERATORS = 8  # most frequent ones; the others share one bar
LONGEST_NAME = 28
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)


def latency(evaluation: Evaluation) -> str:
    """Returns per batch size how the calls are distributed: box 25-75 %, line 5-95 %, dot 99 %."""
    results = sorted(evaluation.latency, key=lambda result: result.batch_size)
    drawn = figure(8.4, 0.9 + 0.75 * len(results))
    axes = drawn.subplots()
    for place, result in enumerate(results):
        for name, calls_us, y in (
            ("fp32", result.fp32_us, place - 0.18),
            ("int8", result.int8_us, place + 0.18),
        ):
            p5, p25, p50, p75, p95, p99 = np.percentile(calls_us, (5, 25, 50, 75, 95, 99))
            color, label = COLORS[name], name.upper() if place == 0 else None
            axes.hlines(y, p5, p95, color=color, lw=1.2)
            axes.barh(y, p75 - p25, 0.26, p25, color=color, label=label)
            axes.vlines(p50, y - 0.17, y + 0.17, color=COLORS["ink"], lw=1.4)
            axes.plot(p99, y, "o", color=color, ms=3)
        interval = f"{result.speedup_low:.2f} to {result.speedup_high:.2f}"
        axes.text(
            1.01,
            place,
            f"{times(result.speedup)}\n({interval})",
            transform=axes.get_yaxis_transform(),
            color=COLORS["ink"],
            fontsize=FONT_POINTS,
            va="center",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(tick_text(lambda us: f"{us:,g}"))
    axes.xaxis.set_minor_formatter(tick_text(_minor_microseconds))
    axes.set_yticks(range(len(results)), [f"batch {count(r.batch_size)}" for r in results])
    axes.set_ylim(len(results) - 0.4, -0.6)
    style(axes, "Microseconds per call, logarithmic", "", grid="x")
    legend(axes)
    return to_svg(drawn, "latency")


def size(evaluation: Evaluation) -> str:
    """Returns one bar per model file."""
    sizes = evaluation.sizes_bytes
    drawn = figure(4.4, 2.6)
    axes = drawn.subplots()
    for place, (name, size_bytes) in enumerate(sizes.items()):
        axes.barh(place, size_bytes, 0.6, color=COLORS["int8" if name == "int8" else "fp32"])
        axes.annotate(
            f"{file_size(size_bytes)} ({share(size_bytes / sizes['fp32'])})",
            (size_bytes, place),
            xytext=(5, 0),
            textcoords="offset points",
            color=COLORS["ink"],
            fontsize=FONT_POINTS,
            va="center",
        )
    axes.set_yticks(range(len(sizes)), [name.upper() for name in sizes])
    axes.set_ylim(len(sizes) - 0.5, -0.5)
    axes.set_xlim(0, 1.5 * max(sizes.values()))
    axes.xaxis.set_major_formatter(tick_text(lambda value: file_size(round(value))))
    axes.locator_params(axis="x", nbins=4)
    style(axes, "File size", "", grid="x")
    return to_svg(drawn, "size")


def coverage(evaluation: Evaluation) -> str:
    """Returns the nodes of each operator, stacked by treatment, the most frequent first."""
    totals = Counter(node.op_type for node in evaluation.coverage)
    shown = [op_type for op_type, _ in totals.most_common(OPERATORS)]
    names = [*shown, "others"] if len(totals) > len(shown) else shown
    found = Counter(
        (node.op_type if node.op_type in shown else "others", node.treatment)
        for node in evaluation.coverage
    )
    drawn = figure(4.4, 1.0 + 0.24 * len(names))
    axes = drawn.subplots()
    places, left = np.arange(len(names)), np.zeros(len(names))
    for treatment in TREATMENTS:
        nodes = np.array([found[name, treatment] for name in names])
        if nodes.any():
            axes.barh(places, nodes, 0.7, left, color=COLORS[treatment], label=treatment)
            left += nodes
    axes.set_yticks(places, [_label(name) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.locator_params(axis="x", integer=True, nbins=6)
    style(axes, "Nodes", "", grid="x")
    legend(axes, columns=3)  # four names are wider than the picture
    return to_svg(drawn, "coverage")


def _label(name: str) -> str:
    """Returns an operator name as a label: a custom one may be endless or in any script.

    ONNX wants C identifiers, and matplotlib's font lacks most scripts. The tables show names whole.
    """
    return name[:LONGEST_NAME].encode("ascii", "replace").decode()


def _minor_microseconds(value: float) -> str:
    """Returns text for 2 and 5 of a decade only, so that labels do not run into each other."""
    return f"{value:,g}" if f"{value:e}"[0] in "25" else ""
