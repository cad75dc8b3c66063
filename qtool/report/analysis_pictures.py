"""Pictures of an analysis: gain against sensitivity, errors, times and ranges of layers."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from qtool.report.svg import (
    COLORS,
    FONT_POINTS,
    WIDE,
    beside,
    figure,
    legend,
    name_rows,
    shown_label,
    style,
    tick_text,
    to_svg,
)
from qtool.report.text import microseconds, share
from qtool.search.advice import LARGEST_ERROR, decibels, error_of
from qtool.search.analysis import Analysis, LayerAnalysis, Option

MOST_LAYERS = 30
MARKS = {("static", 8): "o", ("dynamic", 8): "s", ("weight_only", 8): "D", ("weight_only", 4): "v"}
"""Treatments differ in shape, too."""
WORDS = {
    ("static", 8): "static",
    ("dynamic", 8): "dynamic",
    ("weight_only", 8): "weight-only, 8 bits",
    ("weight_only", 4): "weight-only, 4 bits",
}
BEST_DB = 80.0
"""What changes the outputs less is drawn here."""
LABELLED = 6
NAME_WIDTH, NAME_HEIGHT = 0.25, 0.06
"""Shares of the picture."""


def gains(analysis: Analysis) -> str:
    """Returns the treatments by the time that they save and the noise that they leave."""
    drawn = figure(WIDE, 4.2)
    axes = drawn.subplots()
    axes.axhline(decibels(LARGEST_ERROR), color=COLORS["float"], lw=1, ls="--")
    axes.axvline(0, color=COLORS["ink"], lw=0.8)
    points: list[tuple[float, float, LayerAnalysis, bool]] = []
    for key, mark in MARKS.items():
        found = [
            (
                _saved(analysis, layer, option),
                _shown_db(option),
                layer,
                analysis.advised.get(layer.name) == key,
            )
            for layer, option in _options(analysis)
            if (option.method, option.bits) == key
        ]
        if found:
            x, y, _, _ = zip(*found, strict=True)
            axes.scatter(x, y, s=40, color=COLORS[key[0]], marker=mark, label=WORDS[key])
            points += found
    ringed = [(x, y) for x, y, _, advised in points if advised]
    if ringed:
        axes.scatter(
            [x for x, _ in ringed],
            [y for _, y in ringed],
            s=110,
            facecolors="none",
            edgecolors=COLORS["ink"],
            label="advised",
        )
    _name_points(axes, points)
    axes.margins(x=0.12, y=0.1)
    axes.xaxis.set_major_formatter(tick_text(share))
    style(axes, "Share of the model's time that it saves", "Signal to noise, dB")
    legend(axes, columns=5)
    return to_svg(drawn, "gains")


def _name_points(axes: Axes, points: list[tuple[float, float, LayerAnalysis, bool]]) -> None:
    """Names the layers of the noisiest marks, where a name covers no other."""
    if not points:
        return
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    width, height = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0
    named: list[tuple[float, float]] = []
    names: set[str] = set()
    for x, y, layer, _ in sorted(points, key=lambda point: (point[1], -point[0])):
        covers = any(
            abs(x - other) < NAME_WIDTH * width and abs(y - above) < NAME_HEIGHT * height
            for other, above in named
        )
        if covers or layer.name in names or len(named) == LABELLED:
            continue
        named.append((x, y))
        names.add(layer.name)
        axes.annotate(
            shown_label(layer.name),
            (x, y),
            xytext=(8, 0),
            textcoords="offset points",
            color=COLORS["ink"],
            fontsize=FONT_POINTS - 1,
            va="center",
            parse_math=False,
        )


def errors(analysis: Analysis) -> str:
    """Returns the noise that each treatment of each layer leaves; of many layers the worst."""
    shown = _worst(analysis)
    drawn = figure(WIDE, 1.1 + 0.24 * max(len(shown), 1))
    axes = drawn.subplots()
    for key, mark in MARKS.items():
        places = [
            (place, option)
            for place, layer in enumerate(shown)
            for option in layer.options
            if (option.method, option.bits) == key and not math.isnan(error_of(option))
        ]
        for measured in (True, False):
            some = [(p, o) for p, o in places if math.isnan(o.measured_error) != measured]
            if some:
                axes.scatter(
                    [_shown_db(option) for _, option in some],
                    [place for place, _ in some],
                    34,
                    marker=mark,
                    facecolors=COLORS[key[0]] if measured else "none",
                    edgecolors=COLORS[key[0]],
                    label=WORDS[key] + ("" if measured else " (predicted)"),
                )
    name_rows(axes, [layer.name for layer in shown])
    style(axes, "Signal to noise of the outputs, dB", "")
    legend(axes)
    return to_svg(drawn, "errors")


def times(analysis: Analysis) -> str:
    """Returns the time of every layer in FP32 and as advised; of many layers the longest."""
    batch = max(analysis.batch_sizes)
    longest = sorted(analysis.layers, key=lambda layer: -layer.option("float").us[batch])
    shown = [layer for layer in analysis.layers if layer in longest[:MOST_LAYERS]]
    drawn = figure(WIDE, 1.0 + 0.3 * len(shown))
    axes = drawn.subplots()
    fp32 = [layer.option("float").us[batch] for layer in shown]
    advised = [
        layer.option(*analysis.advised.get(layer.name, ("float", 32))).us[batch] for layer in shown
    ]
    places = np.arange(len(shown))
    axes.barh(places - 0.19, fp32, 0.34, color=COLORS["fp32"], label="FP32")
    axes.barh(places + 0.19, advised, 0.34, color=COLORS["int8"], label="as advised")
    name_rows(axes, [layer.name for layer in shown])
    for place, (before, after) in enumerate(zip(fp32, advised, strict=True)):
        beside(axes, place, f"{microseconds(before)} → {microseconds(after)}")
    axes.xaxis.set_major_formatter(tick_text(microseconds))
    style(axes, "Microseconds per call", "", grid="x")
    legend(axes)
    return to_svg(drawn, "layer-times")


def ranges(analysis: Analysis) -> str:
    """Returns a box of every activation; of many those whose middle half is the narrowest."""
    scaled = {
        spread.tensor: np.array(spread.quantiles) / (max(map(abs, spread.quantiles)) or 1.0)
        for spread in analysis.spreads
    }
    narrowest = sorted(scaled, key=lambda name: float(scaled[name][4] - scaled[name][2]))
    shown = [name for name in scaled if name in narrowest[:MOST_LAYERS]]
    drawn = figure(WIDE, 0.9 + 0.24 * len(shown))
    axes = drawn.subplots()
    boxes = [
        {
            "q1": scaled[name][2],
            "med": scaled[name][3],
            "q3": scaled[name][4],
            "whislo": scaled[name][1],
            "whishi": scaled[name][5],
            "fliers": [scaled[name][0], scaled[name][6]],
        }
        for name in shown
    ]
    line = {"color": COLORS["ink"], "linewidth": 0.9}
    axes.bxp(
        boxes,
        positions=range(len(shown)),
        orientation="horizontal",
        widths=0.6,
        patch_artist=True,
        boxprops={"facecolor": COLORS["dynamic"], "edgecolor": COLORS["ink"], "linewidth": 0.9},
        medianprops={"color": COLORS["int8"], "linewidth": 1.6},
        whiskerprops=line,
        capprops=line,
        flierprops={"marker": "|", "markeredgecolor": COLORS["ink"], "markersize": 7},
    )
    name_rows(axes, shown)
    axes.set_xlim(-1.05, 1.05)
    style(axes, "Value over the largest magnitude", "", grid="x")
    return to_svg(drawn, "ranges")


def _options(analysis: Analysis) -> list[tuple[LayerAnalysis, Option]]:
    return [
        (layer, option)
        for layer in analysis.layers
        for option in layer.options
        if (option.method, option.bits) in MARKS and not math.isnan(error_of(option))
    ]


def _saved(analysis: Analysis, layer: LayerAnalysis, option: Option) -> float:
    """Returns the mean share of the model's time over the batch sizes."""
    fp32, total = layer.option("float").us, analysis.fp32_us
    return float(np.mean([(fp32[b] - option.us[b]) / total[b] for b in analysis.batch_sizes]))


def _shown_db(option: Option) -> float:
    return min(decibels(error_of(option)), BEST_DB)


def _worst(analysis: Analysis) -> list[LayerAnalysis]:
    known = dict.fromkeys(layer.name for layer, _ in _options(analysis))
    layers = [layer for layer in analysis.layers if layer.name in known]

    def worst(layer: LayerAnalysis) -> float:
        found = [error_of(option) for option in layer.options]
        return max(error for error in found if not math.isnan(error))

    kept = sorted(layers, key=lambda layer: -worst(layer))[:MOST_LAYERS]
    return [layer for layer in layers if layer in kept]
