"""The search for the fastest model, as a picture."""

from __future__ import annotations

import math

from qtool.evaluation.results import SearchResult, SearchTrial
from qtool.report.svg import COLORS, WIDE, figure, legend, style, tick_text, to_svg
from qtool.report.text import times

SMALLEST_ERROR = 1e-12
"""Below it errors are drawn as this: a logarithmic axis has no 0."""


def front(search: SearchResult) -> str:
    """Returns every model that was tried, by speed and error; a line joins the Pareto front.

    A mark is the larger the larger its file; hollow ones have a predicted speed only.
    """
    drawn = figure(WIDE, 3.8)
    axes = drawn.subplots()
    for passes, color, label in (
        (True, "static", "gates pass"),
        (False, "float", "a gate does not pass"),
    ):
        trials = [trial for trial in search.trials if trial.passes == passes]
        for measured in (True, False):
            some = [trial for trial in trials if math.isfinite(trial.speedup) == measured]
            axes.scatter(
                [_speed(trial) for trial in some],
                [_shown_error(trial) for trial in some],
                s=[20 + 120 * trial.size_ratio for trial in some],
                facecolors=COLORS[color] if measured else "none",
                edgecolors=COLORS[color],
                label=f"{label}, {'measured' if measured else 'speed predicted'}" if some else None,
            )
    best = pareto_front(search.trials)
    axes.plot(
        [trial.speedup for trial in best],
        [_shown_error(trial) for trial in best],
        color=COLORS["static"],
        lw=1,
    )
    for trial in search.trials:
        if trial.chosen:
            place = [_speed(trial)], [_shown_error(trial)]
            axes.plot(*place, "o", ms=11, mfc="none", mec=COLORS["int8"], label="the answer")
    axes.axvline(1.0, color=COLORS["fp32"], lw=1, ls="--", label="speed of FP32")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(tick_text(lambda speed: f"{speed:g}{times(1)[-1]}"))
    style(axes, "Speed over FP32, geometric mean over the batch sizes", "Error, share of variance")
    legend(axes, columns=3)
    return to_svg(drawn, "front")


def pareto_front(trials: tuple[SearchTrial, ...]) -> list[SearchTrial]:
    """Returns the measured trials that none beats in speed and error, the fastest first."""
    measured = [trial for trial in trials if math.isfinite(trial.speedup)]
    front: list[SearchTrial] = []
    for trial in sorted(measured, key=lambda trial: (-trial.speedup, trial.error)):
        if not front or trial.error < front[-1].error:
            front.append(trial)
    return front


def _speed(trial: SearchTrial) -> float:
    return trial.speedup if math.isfinite(trial.speedup) else trial.predicted


def _shown_error(trial: SearchTrial) -> float:
    return max(trial.error, SMALLEST_ERROR)
