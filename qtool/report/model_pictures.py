"""Pictures of the model: its size, and what became of its nodes."""

from __future__ import annotations

import math
from collections import Counter
from typing import get_args

import numpy as np

from qtool.evaluation.results import Evaluation
from qtool.graph.plan import Treatment
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
from qtool.report.text import file_size, share

MOST_LAYERS = 30
OPERATORS = 8  # most frequent ones; the others share one bar
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)


def size(evaluation: Evaluation) -> str:
    """Returns one bar per model file."""
    sizes = evaluation.sizes_bytes
    drawn = figure(HALF, 2.6)
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
    name_rows(axes, [name.upper() for name in sizes])
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
    drawn = figure(HALF, 1.0 + 0.24 * len(names))
    axes = drawn.subplots()
    places, left = np.arange(len(names)), np.zeros(len(names))
    for treatment in TREATMENTS:
        nodes = np.array([found[name, treatment] for name in names])
        if nodes.any():
            axes.barh(places, nodes, 0.7, left, color=COLORS[treatment], label=treatment)
            left += nodes
    name_rows(axes, names)
    axes.locator_params(axis="x", integer=True, nbins=6)
    style(axes, "Nodes", "", grid="x")
    legend(axes, columns=3)  # four names are wider than the picture
    return to_svg(drawn, "coverage")


def layer_errors(evaluation: Evaluation) -> str:
    """Returns one bar per activation in the order of the graph; of many the worst ones."""
    errors = [error for error in evaluation.layer_errors if math.isfinite(error.sqnr_db)]
    worst = sorted(errors, key=lambda error: error.sqnr_db)[:MOST_LAYERS]
    shown = [error for error in errors if error in worst]
    drawn = figure(WIDE, 0.8 + 0.2 * len(shown))
    axes = drawn.subplots()
    axes.barh(range(len(shown)), [e.sqnr_db for e in shown], 0.65, color=COLORS["int8"])
    name_rows(axes, [error.name for error in shown])
    for place, error in enumerate(shown):
        beside(axes, place, f"{error.sqnr_db:.1f} dB")
    style(axes, "Signal-to-noise ratio, dB", "", grid="x")
    return to_svg(drawn, "layer-errors")
