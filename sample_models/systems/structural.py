"""Interventions in an economy: path coefficients, and total effects by simulation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.data.generators.macro_quarters import EQUATIONS, LAGS, VARIABLES
from qtool.evaluation.system import Predict

COUNT = len(VARIABLES)
PATHS = tuple((cause, name) for name, equation in EQUATIONS.items() for cause in equation.paths)
"""Cause and effect."""

Float32 = NDArray[np.float32]
Floats = NDArray[np.float64]


def interventions(
    fp32: Predict, int8: Predict, rows: Batch, do: Sequence[str], step: float, quarters: int
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of every path, and of every pair of an intervention and a variable.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: with the inputs ``causes`` and ``lags``, not scaled.
        do: variables that are raised by ``step`` in the first quarter.
        step: in the unit of the rows; half of it on either side gives the derivative of a path. It
            is as wide as a deviation, so that it spans many codes of INT8.
        quarters: that are simulated.

    Returns:
        ``path_coefficient``, the average derivative (paths,), and ``total_effect``, by how much the
        intervention moves the level of a variable after ``quarters``, (pairs,), averages over
        the rows; ``path_drift`` and ``total_effect_drift``, how far INT8's are from FP32's, beside
        0 of FP32; ``simulations_per_second``, quarters of a row, (1,).
    """
    paths = [path_coefficients(predict, rows, step) for predict in (fp32, int8)]
    effects, speeds = [], []
    for predict in (fp32, int8):
        started = time.perf_counter()
        effects.append(total_effects(predict, rows, do, step, quarters))
        runs = len(rows) * quarters * (1 + len(do))
        speeds.append(np.array([runs / (time.perf_counter() - started)]))
    return {
        "path_coefficient": (paths[0], paths[1]),
        "path_drift": _drift(paths[0], paths[1]),
        "total_effect": (effects[0], effects[1]),
        "total_effect_drift": _drift(effects[0], effects[1]),
        "simulations_per_second": (speeds[0], speeds[1]),
    }


def path_coefficients(predict: Predict, rows: Batch, step: float) -> Floats:
    """Returns the average derivative of each of ``PATHS``, by central differences."""
    values, lags = rows.inputs["causes"], rows.inputs["lags"]
    found = {}
    for cause in dict.fromkeys(cause for cause, _ in PATHS):
        sides = []
        for side in (1, -1):
            moved = values.copy()
            moved[:, VARIABLES.index(cause)] += np.float32(side * step / 2)
            sides.append(_expected(predict, moved, lags).mean(axis=0, dtype=np.float64))
        found[cause] = (sides[0] - sides[1]) / step
    return np.array([found[cause][VARIABLES.index(name)] for cause, name in PATHS])


def total_effects(
    predict: Predict, rows: Batch, do: Sequence[str], step: float, quarters: int
) -> Floats:
    """Returns the average effects on the levels of all other variables, (pairs,).

    Source: abduction, action, prediction (Pearl 2009, "Causality", theorem 7.1.7): in the first
    quarter the shocks of a row stay what they were; later ones are 0.
    """
    values, lags = rows.inputs["causes"], rows.inputs["lags"]
    shocks = values - _expected(predict, values, lags)
    as_it_was = _levels(predict, values, lags, shocks, None, quarters)
    effects = []
    for name in do:
        raised = VARIABLES.index(name)
        acted = values.copy()
        acted[:, raised] += np.float32(step)
        moved = _levels(predict, acted, lags, shocks, raised, quarters) - as_it_was
        effects.append(np.delete(moved.mean(axis=0), raised))
    return np.concatenate(effects)


def _levels(
    predict: Predict,
    values: Float32,
    lags: Float32,
    shocks: Float32,
    fixed: int | None,
    quarters: int,
) -> Floats:
    """Returns the sum of the changes over the quarters, float64 (rows, variables).

    Args:
        predict: the model.
        values: of the first quarter; what does not come from them is replaced.
        lags: of it.
        shocks: of it.
        fixed: variable that is what ``values`` says in the first quarter.
        quarters: that are simulated.
    """
    total = np.zeros(values.shape)
    for quarter in range(quarters):
        values = _simulated(predict, values, lags, shocks, fixed if quarter == 0 else None)
        total += values
        lags = np.concatenate([values, lags[:, : (LAGS - 1) * COUNT]], axis=1)
        shocks = np.zeros_like(shocks)
    return total


def _simulated(
    predict: Predict, values: Float32, lags: Float32, shocks: Float32, fixed: int | None
) -> Float32:
    """Returns the variables of a quarter, causes first (ancestral simulation)."""
    values = values.copy()
    for level in levels():
        free = [index for index in level if index != fixed]
        values[:, free] = _expected(predict, values, lags)[:, free] + shocks[:, free]
    return values


def levels() -> Iterator[list[int]]:
    """Yields variables whose causes have all been yielded before, as many at a time as can be."""
    depth: dict[str, int] = {}
    for name, equation in EQUATIONS.items():
        depth[name] = 1 + max((depth[cause] for cause in equation.paths), default=-1)
    for wanted in range(max(depth.values()) + 1):
        yield [index for index, name in enumerate(VARIABLES) if depth[name] == wanted]


def _expected(predict: Predict, values: Float32, lags: Float32) -> Float32:
    (expected,) = predict({"causes": values, "lags": lags}).values()
    return np.asarray(expected, np.float32)


def _drift(fp32: Floats, int8: Floats) -> tuple[Floats, Floats]:
    return np.zeros(len(fp32)), np.abs(int8 - fp32)
