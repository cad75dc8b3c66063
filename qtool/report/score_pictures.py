"""Pictures of the scores: ROC, agreement of FP32 and INT8, and flips near the threshold.

Scores may have millions of rows, so every picture draws counts or a fixed number of points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from qtool.evaluation.metrics import roc_points
from qtool.evaluation.results import DecisionChange, Scores
from qtool.report.svg import COLORS, FONT_POINTS, figure, legend, style, tick_text, to_svg
from qtool.report.text import count

Floats = NDArray[np.float64]

ROC_POINTS = 300
CELLS = 48  # per side; 48 * 48 squares of about 60 bytes stay below 150 kB
SHADES = 6
SMALLEST_SCORE = 1e-6  # scores are clipped to [1e-6, 1 - 1e-6] on the logit axis
SCORE_TICKS = (1e-6, 1e-4, 0.01, 0.1, 0.5, 0.9, 0.99, 1 - 1e-4, 1 - 1e-6)
NEAR_BINS = 40
SMALLEST_WINDOW = 0.01


def roc(scores: Scores) -> str:
    """Returns the ROC curves, in full and with the low false positive rates magnified."""
    drawn = figure(8.4, 3.6)
    full, low = drawn.subplots(1, 2)
    smallest = 1 / max(int((scores.labels == 0).sum()), 2)
    fp32, int8 = (roc_points(scores.labels, values) for values in (scores.fp32, scores.int8))
    linear = np.linspace(0, 1, ROC_POINTS)
    log = np.geomspace(smallest, 1, ROC_POINTS)
    for axes, grid in ((full, linear), (low, log)):
        for (fpr, tpr), name, dashes, width in (
            (fp32, "fp32", (None, None), 2.6),
            (int8, "int8", (3, 1.5), 1.4),
        ):
            # The highest point at each rate: the curve is a step function there.
            at = np.searchsorted(fpr, grid, side="right") - 1
            axes.plot(
                grid, tpr[at], color=COLORS[name], label=name.upper(), lw=width, dashes=dashes
            )
        axes.set_ylim(0, 1.02)
    full.plot((0, 1), (0, 1), color=COLORS["grid"], lw=1, zorder=1)
    style(full, "False positive rate", "True positive rate")
    low.set_xscale("log")
    low.xaxis.set_major_formatter(tick_text(lambda rate: f"{100 * rate:g} %"))
    style(low, "False positive rate, logarithmic", "")
    legend(full)
    return to_svg(drawn, "roc")


def agreement(scores: Scores, decisions: DecisionChange) -> str:
    """Returns how many rows have which pair of scores, on logit axes with the threshold."""
    fp32, int8, threshold = (
        _logit(values) for values in (scores.fp32, scores.int8, np.array(decisions.threshold))
    )
    low = min(fp32.min(), int8.min(), threshold) - 0.3
    high = max(fp32.max(), int8.max(), threshold) + 0.3
    counts, edges, _ = np.histogram2d(fp32, int8, bins=CELLS, range=((low, high), (low, high)))
    drawn = figure(4.4, 4.0)
    axes = drawn.subplots()
    levels = np.ceil(np.log1p(counts) / np.log1p(counts.max()) * SHADES).astype(int)
    for level in range(1, SHADES + 1):
        cells = levels == level
        if cells.any():
            color, alpha = COLORS["int8"], 0.15 + 0.85 * level / SHADES
            shade = _squares(cells, edges)
            axes.add_patch(PathPatch(shade, facecolor=color, alpha=alpha, linewidth=0))
    axes.axline((low, low), slope=1, color=COLORS["ink"], lw=0.6)
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
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    style(axes, "FP32 score", "INT8 score")
    return to_svg(drawn, "agreement")


def flips(scores: Scores, decisions: DecisionChange) -> str:
    """Returns how many rows lie near the threshold, and which of them flipped.

    The window reaches four times as far as the farthest flip, or as the largest score change when
    no decision changed.
    """
    threshold = np.float32(decisions.threshold)
    distance = scores.fp32.astype(np.float64) - float(threshold)
    flipped = (scores.fp32 >= threshold) != (scores.int8 >= threshold)
    reach = np.abs(distance[flipped]).max() if flipped.any() else decisions.largest_score_change
    window = min(max(4 * float(reach), SMALLEST_WINDOW), 1.0)
    edges = np.linspace(-window, window, NEAR_BINS + 1)
    near, changed = (np.histogram(d, edges)[0] for d in (distance, distance[flipped]))
    drawn = figure(4.4, 4.0)
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


def _squares(cells: NDArray[np.bool_], edges: Floats) -> Path:
    """Returns the cells as one compound path, which SVG writes far smaller than one each."""
    corners = np.array(((0, 0), (1, 0), (1, 1), (0, 1), (0, 0)))
    at = np.argwhere(cells)[:, None, :] + corners
    codes = (Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY)
    return Path(edges[at].reshape(-1, 2), np.tile(codes, len(at)))


def _logit(values: NDArray[np.floating]) -> Floats:
    clipped = np.clip(values.astype(np.float64), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _score_text(score: float) -> str:
    return f"{score:g}" if score >= 0.01 else f"{score:.0e}".replace("e-0", "e-")
