"""What becomes of the user's system with FP32 and with INT8: simulations, searches, an index.

A model whose predictions hardly move may still steer the system around it elsewhere, and a system
may forgive what its metrics do not. The function that is named by ``evaluation.system`` uses both
models; what it returns per independent unit (an episode, a query, a portfolio) is compared paired.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Resampling, System
from qtool.data.batch import Batch
from qtool.errors import ModelError
from qtool.evaluation.compare import Pairing, compare
from qtool.evaluation.metrics.metric import Metric, mean_of
from qtool.evaluation.results import MetricChange
from qtool.evaluation.sample import Sample
from qtool.user_code import user_function, users_code

Floats = NDArray[np.float64]
Predict = Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]
"""Inputs of the model by name, of any number of rows → its outputs by name."""
EXPECTED = "a function system(fp32, int8, rows, **arguments)"
CORRECT = "Correct that code."


def system_figures(
    fp32: Predict, int8: Predict, rows: Batch, section: System, resampling: Resampling, seed: int
) -> dict[str, MetricChange]:
    """Returns every figure of ``section.figures`` and ``section.timed``: means, and their change.

    The interval is that of a paired bootstrap of the units; one unit alone has none.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: of the evaluation split, encoded, with the raw columns that the section names.
        section: the function, and what it returns.
        resampling: resamples and confidence.
        seed: of the draws.

    Raises:
        ModelError: the function is missing, raises, or returns something else.
    """
    where, function = _where(section), system_function(section)
    with users_code(where, CORRECT):
        found = function(fp32, int8, rows, **section.arguments)
    asked = {**section.figures, **section.timed}
    if not isinstance(found, Mapping) or set(found) != set(asked):
        returned = sorted(found) if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise ModelError(where, f"returned {returned}", f"the figures {sorted(asked)}", CORRECT)
    changes = {}
    for name, better in asked.items():
        values = _paired(found[name], name, where)
        metric = Metric(name, title_of(name), better, lambda _, side: mean_of(side))
        units = np.arange(len(values[0]))
        sample = Sample(units, np.zeros(len(units)), *values)
        plain = resampling.model_copy(update={"cluster": None, "block": None})
        (changes[name],) = compare(sample, (metric,), Pairing(plain, "regression", False, seed))
    return changes


def system_function(section: System) -> Callable[..., Any]:
    """Returns the function of the user.

    Raises:
        ModelError: it is missing, or importing it raises.
    """
    return user_function(section.function, section.pythonpath, _where(section), EXPECTED)


def _where(section: System) -> str:
    return f"evaluation.system {section.function!r}"


def title_of(name: str) -> str:
    """Returns a figure's name as reports write it."""
    return name.replace("_", " ").capitalize()


def _paired(found: object, name: str, where: str) -> tuple[Floats, Floats]:
    """Returns the values with FP32 and with INT8, float64 (units,)."""
    expected = "two arrays of numbers of one length: with FP32, with INT8"
    try:
        fp32, int8 = (np.asarray(side, np.float64) for side in found)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        kind = type(found).__name__
        raise ModelError(where, f"{name!r} is a {kind}", expected, CORRECT) from error
    if fp32.ndim != 1 or fp32.shape != int8.shape or not fp32.size:
        raise ModelError(
            where, f"{name!r} has the shapes {fp32.shape} and {int8.shape}", expected, CORRECT
        )
    if not (np.isfinite(fp32).all() and np.isfinite(int8).all()):
        raise ModelError(where, f"{name!r} holds NaN or infinity", "finite numbers", CORRECT)
    return fp32, int8
