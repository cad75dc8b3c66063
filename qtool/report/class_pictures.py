"""Pictures of a multiclass classifier: where FP32 and INT8 name different classes, and accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from qtool.evaluation.metrics.multiclass import predicted
from qtool.evaluation.sample import Sample
from qtool.report.svg import (
    COLORS,
    FONT_POINTS,
    HALF,
    figure,
    legend,
    name_rows,
    shown_label,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import count

Counts = NDArray[np.int64]

SHOWN = 10  # classes of the matrix; the others share one row and one column
COMPARED = 16  # classes whose accuracy is drawn
LARGEST_ALPHA = 0.5  # numbers stay readable on the cell, in both themes


def disagreements(sample: Sample, classes: Sequence[str]) -> str:
    """Returns how many rows FP32 puts in one class (down) and INT8 in another (across).

    Only the classes with the most disagreements have a row of their own when there are many.
    """
    table, names = _pooled(_confusion(sample), classes)
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    largest = max(int(table.max()), 1)
    for (row, column), rows in np.ndenumerate(table):
        if row == column:
            _cell(axes, row, column, COLORS["grid"], LARGEST_ALPHA)
        if rows:
            alpha = 0.1 + (LARGEST_ALPHA - 0.1) * float(np.log1p(rows) / np.log1p(largest))
            _cell(axes, row, column, COLORS["flip"], alpha)
            axes.text(
                column, row, count(int(rows)), ha="center", va="center",
                fontsize=FONT_POINTS - 1, color=COLORS["ink"],
            )  # fmt: skip
    across = [shown_label(name) for name in names]
    upright = sum(map(len, across)) < 40
    axes.set_xticks(range(len(names)), across, parse_math=False, rotation=0 if upright else 90)
    name_rows(axes, names)
    axes.set(xlim=(-0.5, len(names) - 0.5), aspect="equal")
    style(axes, "Class of INT8", "Class of FP32")
    axes.grid(visible=False)
    return to_svg(drawn, "disagreements")


def accuracy(sample: Sample, classes: Sequence[str]) -> str:
    """Returns the share of rows of each class that each model gets right.

    Of many classes, those whose share changed most.
    """
    rows = np.bincount(sample.labels, minlength=sample.fp32.shape[1])
    fp32, int8 = (
        np.bincount(sample.labels[predicted(p) == sample.labels], minlength=len(rows))
        / np.maximum(rows, 1)
        for p in (sample.fp32, sample.int8)
    )
    order = [place for place in np.argsort(-np.abs(int8 - fp32), kind="stable") if rows[place]]
    shown = order[:COMPARED] if len(order) > COMPARED else sorted(order)
    drawn = figure(HALF, max(0.9 + 0.22 * len(shown), 2.2))
    axes = drawn.subplots()
    for place, one in enumerate(shown):
        axes.hlines(place, fp32[one], int8[one], color=COLORS["float"], lw=1.5)
    places = range(len(shown))
    axes.plot(fp32[shown], places, "o", ms=7, color=COLORS["fp32"], label="FP32")
    axes.plot(int8[shown], places, "D", ms=4, color=COLORS["int8"], label="INT8")
    names = class_names(classes, len(rows))
    name_rows(axes, [f"{names[one]} ({count(int(rows[one]))})" for one in shown])
    axes.xaxis.set_major_formatter(tick_text(lambda value: f"{100 * value:g} %"))
    axes.locator_params(axis="x", nbins=5)
    style(axes, "Rows of the class that are right", "")
    legend(axes)
    return to_svg(drawn, "class-accuracy")


def class_names(classes: Sequence[str], number: int) -> list[str]:
    """Returns the names of the classes: their numbers where the labels are numbers."""
    return list(classes) or [str(place) for place in range(number)]


def _confusion(sample: Sample) -> Counts:
    """Rows by (class of FP32, class of INT8); 0 where both are the same."""
    classes = sample.fp32.shape[1]
    pairs = predicted(sample.fp32) * classes + predicted(sample.int8)
    table = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    np.fill_diagonal(table, 0)
    return table.astype(np.int64)


def _pooled(table: Counts, classes: Sequence[str]) -> tuple[Counts, list[str]]:
    """With many classes, those with fewer disagreements become one, the last."""
    names = class_names(classes, len(table))
    if len(table) <= SHOWN + 1:
        return table, names
    order = np.argsort(-(table.sum(axis=0) + table.sum(axis=1)), kind="stable")
    own = np.sort(order[:SHOWN])
    place = np.full(len(table), SHOWN)
    place[own] = np.arange(SHOWN)
    pooled = np.zeros((SHOWN + 1, SHOWN + 1), np.int64)
    np.add.at(pooled, (place[:, None], place[None, :]), table)
    return pooled, [*(names[one] for one in own), f"{len(table) - SHOWN} others"]


def _cell(axes: Axes, row: int, column: int, color: str, alpha: float) -> None:
    axes.add_patch(
        Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, alpha=alpha, linewidth=0)
    )
