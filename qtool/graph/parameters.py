"""From ranges to numbers: the scales and zero points of everything that a plan quantizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant
from qtool.graph.plan import Plan
from qtool.graph.planner import absorbed_tables, column_count
from qtool.graph.targets import TARGETS
from qtool.numerics.affine import Array, QuantParams, choose_qparams, weight_qparams
from qtool.numerics.columns import widen_columns


@dataclass(frozen=True)
class Range:
    """The calibrated range of one activation, arrays of shape (1,) or (columns,).

    ``mean_square`` is E[x²] of each column; it balances column scales against the weight.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean_square: NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """All numbers of a quantization: float constants as they are to be quantized, and how.

    Attributes:
        constants: initializer name → float32 array, for every weight and bias of the plan and every
            absorbed table.
        activations: tensor name → parameters.
        weights: initializer name → parameters (of ``diag(scale) @ weight`` where the plan folds).
    """

    constants: dict[str, Array]
    activations: dict[str, QuantParams]
    weights: dict[str, QuantParams]


def constants_of(model: ir.Model) -> dict[str, Array]:
    """Returns every float32 initializer of ``model`` by name."""
    arrays = {name: constant(value) for name, value in model.graph.initializers.items()}
    return {
        name: array.astype(np.float32, copy=False)
        for name, array in arrays.items()
        if array is not None and array.dtype == np.float32
    }


def derive(model: ir.Model, plan: Plan, ranges: dict[str, Range]) -> Parameters:
    """Returns the parameters of post-training quantization: scales from ranges, weights min-max."""
    constants = constants_of(model)
    tables = _tables_by_columns(model, plan)
    activations = {}
    for name, spec in plan.activations.items():
        low, high = ranges[name].low.copy(), ranges[name].high.copy()
        if spec.axis == 1:
            mean_square = ranges[name].mean_square
            for columns, table in tables.get(name, []):
                # A table is known in full; the calibration rows may have missed some of its values.
                low[columns] = np.minimum(constants[table].min(axis=0), 0)
                high[columns] = np.maximum(constants[table].max(axis=0), 0)
            readers = [constants[w] for w, weight in plan.weights.items() if weight.folds == name]
            low, high = widen_columns(
                low,
                high,
                mean_square,
                np.concatenate(readers, axis=1),
                levels=spec.qmax - spec.qmin,
                weight_qmax=TARGETS[plan.target].weight(axis=None).qmax,
            )
            activations[name] = choose_qparams(low, high, spec)
        else:
            activations[name] = choose_qparams(low.reshape(()), high.reshape(()), spec)
    weights = {
        name: weight_qparams(fold(constants[name], weight.folds, activations), weight.spec)
        for name, weight in plan.weights.items()
    }
    return Parameters(constants, activations, weights)


def fold(weight: Array, folds: str | None, activations: dict[str, QuantParams]) -> Array:
    """Returns what is quantized: ``diag(scale) @ weight`` where the plan folds."""
    return weight if folds is None else activations[folds].scale[:, None] * weight


def _tables_by_columns(model: ir.Model, plan: Plan) -> dict[str, list[tuple[slice, str]]]:
    """Returns, per column-wise activation, the columns that each absorbed table fills."""
    absorbed = absorbed_tables(model, plan)
    found: dict[str, list[tuple[slice, str]]] = {}
    for node in model.graph:
        parts = absorbed.get(str(node.outputs[0].name), {})
        start = 0
        for part in node.inputs if parts else ():
            assert part is not None
            columns = slice(start, start + column_count(part))
            start = columns.stop
            if part.name in parts:
                found.setdefault(str(node.outputs[0].name), []).append((columns, parts[part.name]))
    return found
