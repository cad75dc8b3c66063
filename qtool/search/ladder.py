"""A ladder of plans, from the fastest to the most exact, each one exchange apart.

Every unit of layers has treatments with a predicted time and a predicted error. Minimising time
subject to a bound on the sum of errors is the multiple-choice knapsack problem; the plans here are
the solutions of its continuous relaxation (Sinha and Zoltners 1979, Operations Research 27(3)):
treatments below the lower convex hull of (error, time) are left out, and the exchanges of all units
are done in the order of the error that they take away per time that they cost. Along the ladder the
predicted error falls and the predicted time rises, so that a search can bisect.

Size counts a little (``SIZE_WORTH``): a stored layer takes as long as a float one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from qtool.search.analysis import Analysis, Choice, LayerAnalysis, Option

Assignment = Mapping[str, Choice]
"""Layer → what it gets."""
SIZE_WORTH = 0.05
"""What the whole file is worth, as a share of the time of FP32: a quarter of it is worth 4 %."""
NOISE = 0.03
"""Share of the slowest treatment's time by which two treatments of a unit must differ to be told
apart; of those as small that cannot, only the most exact is on the ladder."""


@dataclass(frozen=True)
class Rung:
    """One plan of the ladder.

    Attributes:
        assignment: of every layer.
        time: predicted, as a share of FP32's, the mean over the batch sizes.
        error: predicted, as a share of the variance of the outputs.
        change: what it exchanged against the rung before, in words; empty for the first.
    """

    assignment: Assignment
    time: float
    error: float
    change: str


@dataclass(frozen=True)
class _Step:
    """One treatment of one unit; ``cost`` is its time with what its size is worth."""

    choices: Assignment
    bits: int
    time: float
    cost: float
    error: float


def ladder(analysis: Analysis, fixed: Collection[str]) -> tuple[Rung, ...]:
    """Returns the plans from the fastest to the most exact.

    Args:
        analysis: of all layers.
        fixed: layers whose treatment is given by rules, and so is not chosen here.
    """
    units = [_hull(_steps(unit, analysis)) for unit in _units(analysis.layers, fixed)]
    at = [0] * len(units)
    exchanges = sorted(
        (_slope(hull[index], hull[index + 1]), unit, index)
        for unit, hull in enumerate(units)
        for index in range(len(hull) - 1)
    )
    rungs = [_rung(units, at, analysis, "")]
    for _, unit, index in exchanges:
        at[unit] = index + 1
        rungs.append(_rung(units, at, analysis, _words(units[unit][index + 1].choices)))
    return tuple(rungs)


def share_of_time(option: Option, analysis: Analysis) -> float:
    """Returns the time of an option as a share of FP32's, the mean over the batch sizes."""
    shares = [option.us[batch] / analysis.fp32_us[batch] for batch in analysis.batch_sizes]
    return sum(shares) / len(shares)


def error_of(option: Option) -> float:
    """Returns the measured error, the predicted one where it was not measured."""
    if option.method == "float":
        return 0.0
    if not math.isnan(option.measured_error):
        return option.measured_error
    return 0.0 if math.isnan(option.error) else option.error


def _units(layers: Iterable[LayerAnalysis], fixed: Collection[str]) -> list[list[LayerAnalysis]]:
    found: dict[int, list[LayerAnalysis]] = {}
    for layer in layers:
        if layer.name not in fixed:
            found.setdefault(layer.unit, []).append(layer)
    return list(found.values())


def _steps(unit: Sequence[LayerAnalysis], analysis: Analysis) -> list[_Step]:
    """Returns what a unit can be: treatments that all of its layers can have."""
    choices = [{(o.method, o.bits): o for o in layer.options} for layer in unit]
    common = [key for key in choices[0] if all(key in options for options in choices)]
    total = max(1, sum(layer.weights for layer in analysis.layers))
    steps = []
    for key in common:
        options = [options[key] for options in choices]
        steps.append(
            _Step(
                {layer.name: key for layer in unit},
                key[1],
                time := sum(share_of_time(option, analysis) for option in options),
                time + SIZE_WORTH * key[1] / 32 * sum(layer.weights for layer in unit) / total,
                sum(error_of(option) for option in options),
            )
        )
    return steps


def _hull(steps: list[_Step]) -> list[_Step]:
    """Returns the lower convex hull, from the fastest step to the most exact one."""
    cheapest = min(steps, key=lambda step: (step.cost, step.error))
    most = cheapest.cost + NOISE * max(step.time for step in steps)
    alike = (step for step in steps if step.cost <= most and step.bits <= cheapest.bits)
    first = min(alike, key=lambda step: (step.error, step.cost))
    hull: list[_Step] = []
    for step in sorted((s for s in steps if s.cost >= first.cost), key=lambda s: (s.cost, s.error)):
        if hull and step.error >= hull[-1].error:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], step):
            hull.pop()
        hull.append(step)
    return hull


def _slope(before: _Step, after: _Step) -> float:
    """Returns what an exchange costs per error that it takes away."""
    return (after.cost - before.cost) / (before.error - after.error)


def share_of(assignment: Assignment, analysis: Analysis) -> float:
    """Returns the predicted time of a plan as a share of FP32's, with all that is no layer."""
    by_name = {layer.name: layer for layer in analysis.layers}
    saved = (
        share_of_time(by_name[name].option("float"), analysis)
        - share_of_time(by_name[name].option(*choice), analysis)
        for name, choice in assignment.items()
    )
    return 1 - sum(saved)


def _rung(
    units: Sequence[Sequence[_Step]], at: Sequence[int], analysis: Analysis, change: str
) -> Rung:
    chosen = [hull[index] for hull, index in zip(units, at, strict=True)]
    assignment = {name: choice for step in chosen for name, choice in step.choices.items()}
    error = sum(step.error for step in chosen)
    return Rung(assignment, share_of(assignment, analysis), error, change)


def _words(choices: Assignment) -> str:
    names = list(choices)
    method, bits = choices[names[0]]
    what = f"{method} ({bits} bits)" if method == "weight_only" else method
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{others}: {what}"
