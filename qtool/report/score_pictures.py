"""Pictures of a binary classifier: ROC, precision, calibration, agreement, flips at the threshold.

A sample may have millions of rows, so every picture draws counts or a fixed number of points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from qtool.evaluation.metrics.binary import equal_mass_edges, roc_points
from qtool.evaluation.results import DecisionChange
from qtool.evaluation.sample import Sample
from qtool.report.density import draw_density
from qtool.report.svg import (
    COLORS,
    FONT_POINTS,
    HALF,
    WIDE,
    figure,
    legend,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import count

Floats = NDArray[np.float64]

CURVE_POINTS = 300
SMALLEST_SCORE = 1e-6  # scores are clipped to [1e-6, 1 - 1e-6] on the logit axis
SCORE_TICKS = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 1 - 1e-4, 1 - 1e-6)
RELIABILITY_BINS = 10
RARE = 0.1  # below this base rate the calibration axes spread small probabilities
SHARE_TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1)
NEAR_BINS = 40
SMALLEST_WINDOW = 0.01


def roc(sample: Sample) -> str:
    """Returns the ROC curves, in full and with the low false positive rates magnified."""
    drawn = figure(WIDE, 3.6)
    full, low = drawn.subplots(1, 2)
    smallest = 1 / max(int((sample.labels == 0).sum()), 2)
    linear = np.linspace(0, 1, CURVE_POINTS)
    log = np.geomspace(smallest, 1, CURVE_POINTS)
    for name, scores in (("fp32", sample.fp32), ("int8", sample.int8)):
        fpr, tpr = roc_points(sample.labels, scores)
        for axes, grid in ((full, linear), (low, log)):
            # The highest point at each rate: the curve is a step function there.
            at = np.searchsorted(fpr, grid, side="right") - 1
            _curve(axes, name, grid, tpr[at])
    for axes in (full, low):
        axes.set_ylim(0, 1.02)
    full.plot((0, 1), (0, 1), color=COLORS["grid"], lw=1, zorder=1)
    style(full, "False positive rate", "True positive rate")
    low.set_xscale("log")
    low.xaxis.set_major_formatter(tick_text(lambda rate: f"{100 * rate:g} %"))
    style(low, "False positive rate, logarithmic", "")
    legend(full)
    return to_svg(drawn, "roc")


def precision(sample: Sample) -> str:
    """Returns precision against recall; the grey line is the share of positive rows."""
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    positives = int((sample.labels == 1).sum())
    negatives = len(sample) - positives
    grid = np.linspace(1 / CURVE_POINTS, 1, CURVE_POINTS)
    for name, scores in (("fp32", sample.fp32), ("int8", sample.int8)):
        fpr, tpr = roc_points(sample.labels, scores)
        # The first point that reaches a recall: it flags the fewest negative rows.
        at = np.minimum(np.searchsorted(tpr, grid, side="left"), len(tpr) - 1)
        found, wrong = tpr[at] * positives, fpr[at] * negatives
        _curve(axes, name, grid, found / (found + wrong))
    axes.axhline(positives / len(sample), color=COLORS["float"], lw=1)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    style(axes, "Recall", "Precision")
    legend(axes)
    return to_svg(drawn, "precision")


def reliability(sample: Sample) -> str:
    """Returns the share of positive rows against the mean score, in bins of equally many rows."""
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    largest = 0.0
    for name, scores, marker, size in (
        ("fp32", sample.fp32, "o", 6),
        ("int8", sample.int8, "D", 3),
    ):
        mean, positive = _bins(sample.labels, scores)
        color, dashes = COLORS[name], (None, None) if name == "fp32" else (3, 1.5)
        axes.plot(
            mean, positive, marker=marker, ms=size, lw=1.2, color=color, dashes=dashes,
            label=name.upper(),
        )  # fmt: skip
        largest = max(largest, float(mean.max()), float(positive.max()))
    end = min(1.1 * largest, 1.02) if largest > 0 else 1.0
    axes.plot((0, end), (0, end), color=COLORS["float"], lw=1, zorder=1)
    if float((sample.labels == 1).mean()) < RARE:
        ticks = [tick for tick in SHARE_TICKS if tick <= end]
        for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
            scale("function", functions=(_root, np.square))
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(xlim=(0, end), ylim=(0, end))
    style(axes, "Mean score of the bin", "Share of positive rows")
    legend(axes)
    return to_svg(drawn, "reliability")


def _bins(labels: NDArray[Any], scores: NDArray[Any]) -> tuple[Floats, Floats]:
    edges = equal_mass_edges(scores, RELIABILITY_BINS)
    places = np.searchsorted(edges, scores, side="right")
    rows = np.bincount(places, minlength=edges.size + 1)
    means, positive = (
        np.bincount(places, weights, edges.size + 1)[rows > 0] / rows[rows > 0]
        for weights in (scores.astype(np.float64), (labels == 1).astype(np.float64))
    )
    return means, positive


def _root(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(np.maximum(values, 0))  # matplotlib asks for places outside of the axes, too


def _curve(axes: Axes, name: str, x: Floats, y: Floats) -> None:
    """INT8 is thin and dashed, so that FP32 is seen below it."""
    dashes, width = ((None, None), 2.6) if name == "fp32" else ((3, 1.5), 1.4)
    axes.plot(x, y, color=COLORS[name], label=name.upper(), lw=width, dashes=dashes)


def agreement(sample: Sample, decisions: DecisionChange) -> str:
    """Returns how many rows have which pair of scores, on logit axes with the threshold."""
    fp32, int8, threshold = (
        _logit(values) for values in (sample.fp32, sample.int8, np.array(decisions.threshold))
    )
    low = float(min(fp32.min(), int8.min(), threshold)) - 0.3
    high = float(max(fp32.max(), int8.max(), threshold)) + 0.3
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    draw_density(axes, fp32, int8, (low, high))
    for line in (axes.axvline, axes.axhline):
        line(float(threshold), color=COLORS["flip"], lw=1, dashes=(4, 2))
    corner: dict[str, Any] = {
        "transform": axes.transAxes,
        "color": COLORS["flip"],
        "fontsize": FONT_POINTS,
        "va": "center",
    }
    axes.text(0.02, 0.96, "to flagged", ha="left", **corner)
    axes.text(0.98, 0.04, "to passed", ha="right", **corner)
    ticks = [tick for tick in SCORE_TICKS if low <= _logit(np.array(tick)) <= high]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([float(_logit(np.array(t))) for t in ticks], [_score_text(t) for t in ticks])
    style(axes, "FP32 score", "INT8 score")
    return to_svg(drawn, "agreement")


def flips(sample: Sample, decisions: DecisionChange) -> str:
    """Returns how many rows lie near the threshold, and which of them flipped.

    The window reaches four times as far as the farthest flip, or as the largest score change when
    no decision changed.
    """
    threshold = np.float32(decisions.threshold)
    distance = sample.fp32.astype(np.float64) - float(threshold)
    flipped = (sample.fp32 >= threshold) != (sample.int8 >= threshold)
    reach = np.abs(distance[flipped]).max() if flipped.any() else decisions.largest_score_change
    window = min(max(4 * float(reach), SMALLEST_WINDOW), 1.0)
    edges = np.linspace(-window, window, NEAR_BINS + 1)
    near, changed = (np.histogram(d, edges)[0] for d in (distance, distance[flipped]))
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], near, width, align="edge", color=COLORS["float"], label="All rows")
    if flipped.any():
        bars = (edges[:-1], changed, width)
        axes.bar(*bars, align="edge", color=COLORS["flip"], label="Decision changed")
        legend(axes)
    else:
        axes.set_title("No decision changed", color=COLORS["ink"], fontsize=FONT_POINTS + 1)
    axes.axvline(0, color=COLORS["ink"], lw=1, dashes=(4, 2))
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(tick_text(lambda rows: count(round(rows))))
    # Bins start at the threshold, so that none holds rows of both sides; scores end at 0 and 1.
    axes.set_xlim(max(-window, -float(threshold)), min(window, 1 - float(threshold)))
    axes.locator_params(axis="x", nbins=5)
    style(axes, "FP32 score minus threshold", "Rows", grid="y")
    return to_svg(drawn, "flips")


def _logit(values: NDArray[np.floating]) -> Floats:
    clipped = np.clip(values.astype(np.float64), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _score_text(score: float) -> str:
    return f"{score:g}" if score >= 0.01 else f"{score:.0e}".replace("e-0", "e-")
