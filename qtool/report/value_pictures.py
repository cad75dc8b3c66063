"""Pictures of a regression: agreement of the predictions, where the errors lie, coverage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qtool.evaluation.sample import Predictions, Sample
from qtool.report.density import draw_density
from qtool.report.svg import COLORS, HALF, WIDE, figure, legend, style, tick_text, to_svg

Floats = NDArray[np.float64]

ERROR_BINS = 10
SHOWN_SHARE = 0.001  # of the pairs at each end, which would squeeze all others


def points(sample: Sample, predictions: Predictions, levels: Sequence[float]) -> Floats:
    """Returns the point predictions, float64 (rows, targets): of quantiles the middle one.

    Values beyond one per target, such as variances, stand behind the points.
    """
    targets = sample.labels.reshape(len(sample), -1).shape[1]
    if levels:
        middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
        return _quantiles(sample, predictions, levels)[..., middle]
    return predictions[:, : targets or None].astype(np.float64)


def agreement(sample: Sample, levels: Sequence[float]) -> str:
    """Returns how many predictions have which pair of values."""
    fp32, int8 = (points(sample, p, levels).ravel() for p in (sample.fp32, sample.int8))
    both = np.concatenate((fp32, int8))
    low, high = (float(end) for end in np.quantile(both, (SHOWN_SHARE, 1 - SHOWN_SHARE)))
    margin = 0.03 * (high - low) or 1.0
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    draw_density(axes, fp32, int8, (low - margin, high + margin))
    for axis in ("x", "y"):
        axes.locator_params(axis=axis, nbins=5)
    style(axes, "FP32 prediction", "INT8 prediction")
    return to_svg(drawn, "values")


def errors(sample: Sample, levels: Sequence[float]) -> str:
    """Returns the mean absolute error by tenths of the FP32 prediction, the smallest first."""
    labels = sample.labels.reshape(len(sample), -1).astype(np.float64).ravel()
    fp32, int8 = (points(sample, p, levels).ravel() for p in (sample.fp32, sample.int8))
    edges = np.unique(np.quantile(fp32, np.linspace(0, 1, ERROR_BINS + 1)[1:-1]))
    places = np.searchsorted(edges, fp32, side="right")
    rows = np.bincount(places, minlength=len(edges) + 1)
    drawn = figure(HALF, 4.0)
    axes = drawn.subplots()
    at = np.arange(1, len(rows) + 1)
    for name, found, shift in (("fp32", fp32, -0.2), ("int8", int8, 0.2)):
        mean = np.bincount(places, np.abs(labels - found), len(rows)) / np.maximum(rows, 1)
        axes.bar(at + shift, mean, 0.4, color=COLORS[name], label=name.upper())
    axes.set_xticks(at)
    style(axes, "Tenth of the FP32 predictions, the smallest first", "Mean absolute error", "y")
    legend(axes)
    return to_svg(drawn, "errors")


def coverage(sample: Sample, levels: Sequence[float]) -> str:
    """Returns, for each predicted quantile, the share of labels at or below it; and by target.

    The second picture, of labels within the outermost two quantiles, is drawn for several targets.
    """
    labels = sample.labels.reshape(len(sample), -1).astype(np.float64)
    order = np.argsort(levels)
    nominal = np.array(levels)[order]
    by_target = labels.shape[1] > 1 and len(levels) > 1
    drawn = figure(WIDE if by_target else HALF, 3.6)
    axes, *beside = drawn.subplots(1, 2 if by_target else 1, squeeze=False)[0]
    axes.plot((0, 1), (0, 1), color=COLORS["float"], lw=1, zorder=1)
    steps = np.arange(1, labels.shape[1] + 1)
    for name, predictions, marker, size in (
        ("fp32", sample.fp32, "o", 8),
        ("int8", sample.int8, "D", 4),
    ):
        found = _quantiles(sample, predictions, levels)[..., order]
        below = (labels[..., None] <= found).mean(axis=(0, 1))
        axes.plot(nominal, below, marker, ms=size, color=COLORS[name], label=name.upper())
        for right in beside:
            inside = (found[..., 0] <= labels) & (labels <= found[..., -1])
            right.plot(steps, inside.mean(axis=0), marker, ms=size, color=COLORS[name])
    axes.set(xlim=(0, 1), ylim=(0, 1))
    style(axes, "Level of the quantile", "Share of labels at or below it")
    legend(axes)
    for right in beside:
        right.axhline(nominal[-1] - nominal[0], color=COLORS["float"], lw=1, zorder=1)
        right.yaxis.set_major_formatter(tick_text(lambda value: f"{100 * value:g} %"))
        right.locator_params(axis="x", integer=True, nbins=10)
        style(right, "Target, such as the step ahead", "Labels within the outer quantiles")
    return to_svg(drawn, "coverage-of-quantiles")


def _quantiles(sample: Sample, predictions: Predictions, levels: Sequence[float]) -> Floats:
    return predictions.reshape(len(sample), -1, len(levels)).astype(np.float64)
