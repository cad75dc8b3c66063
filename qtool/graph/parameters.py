"""From ranges to numbers: the scales and zero points of everything that a plan quantizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.errors import ModelError
from qtool.graph.model_file import constant
from qtool.graph.plan import Plan, WeightPlan
from qtool.graph.tables import absorbed_tables, column_count
from qtool.numerics.affine import Array, QuantParams, QuantSpec, choose_qparams
from qtool.numerics.columns import Columns, widen_columns
from qtool.numerics.weight_scales import initial_weight_qparams

SMALLEST_SCALE = 1e-30
"""Below it, a product with the activation's scale would leave float32's normal numbers."""
NARROW_BITS = 7
"""Of the codes of narrow channels."""
ROOM_TO_LEARN = 2.0**6
"""How far the bias of weights that are all zero may grow in training; the 24 bits that are left to
it are those of float32."""


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

    def changed(self, model: ir.Model) -> dict[str, Array]:
        """Returns the constants that are not as ``model`` has them: tuning chose others."""
        before = constants_of(model)
        return {
            name: array
            for name, array in self.constants.items()
            if name in before and not np.array_equal(before[name], array)
        }


def constants_of(model: ir.Model) -> dict[str, Array]:
    """Returns every float32 initializer of ``model`` by name."""
    arrays = {name: constant(value) for name, value in model.graph.initializers.items()}
    return {
        name: array.astype(np.float32, copy=False)
        for name, array in arrays.items()
        if array is not None and array.dtype == np.float32
    }


def with_constants(model: ir.Model, constants: Mapping[str, Array]) -> ir.Model:
    """Returns ``model`` with other values of some initializers, of the same shapes."""
    changed = model.clone()
    for name, array in constants.items():
        changed.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return changed


def derive(model: ir.Model, plan: Plan, ranges: dict[str, Range]) -> Parameters:
    """Returns the parameters of post-training quantization: scales from ranges and from weights.

    Raises:
        ModelError: weights are so large that their products overflow.
    """
    constants = constants_of(model)
    tables = _tables_by_columns(model, plan)
    own: dict[str, QuantParams] = {}
    for name in plan.calibrated:
        spec = plan.activations[name]
        low, high = ranges[name].low.copy(), ranges[name].high.copy()
        if spec.axis == 1:
            for columns, table in tables.get(name, []):
                # A table is known in full; the calibration rows may have missed some of its values.
                low[columns] = np.minimum(constants[table].min(axis=0), 0)
                high[columns] = np.maximum(constants[table].max(axis=0), 0)
            known = Range(low, high, ranges[name].mean_square)
            low, high = widen_columns(columns_of(plan, name, known, constants))
            own[name] = choose_qparams(low, high, spec)
        else:
            own[name] = choose_qparams(low.reshape(()), high.reshape(()), spec)
    activations = {name: own[owner_of(plan, name)] for name in plan.activations}
    real = {
        name: fold(constants[name], weight.folds, activations)
        for name, weight in plan.weights.items()
    }
    weights = {name: planned_params(real[name], weight) for name, weight in plan.weights.items()}
    for bias, (activation, weight) in plan.biases.items():
        folded = plan.weights[weight].folds is not None
        input_scale = 1.0 if folded else float(activations[activation].scale)
        weights[weight] = _fitting_bias(
            weights[weight], real[weight], constants[bias], input_scale, weight
        )
    return Parameters(constants, activations, weights)


def planned_params(weight: Array, planned: WeightPlan) -> QuantParams:
    """Returns the first parameters of a constant, with wider steps where it is ``narrow``."""
    params = initial_weight_qparams(weight, planned.spec)
    if not planned.narrow:
        return params
    scale = params.scale.copy()
    scale[list(planned.narrow)] *= np.float32(planned.spec.qmax / narrow_spec(planned.spec).qmax)
    return replace(params, scale=scale)


def narrow_spec(spec: QuantSpec) -> QuantSpec:
    """Returns the codes of the narrow channels of a weight with the codes ``spec``."""
    return replace(spec, bits=min(spec.bits, NARROW_BITS))


def within_narrow(
    weight: Array, planned: WeightPlan, params: QuantParams, activations: dict[str, QuantParams]
) -> Array:
    """Returns a trained weight with its narrow channels cut to the numbers that they have codes of.

    ``weight`` is not folded yet; ``params`` and ``activations`` are the learned ones.
    """
    if not planned.narrow:
        return weight
    qmax = np.full(params.scale.shape, planned.spec.qmax, np.float32)
    qmax[list(planned.narrow)] = narrow_spec(planned.spec).qmax
    limit = params.broadcast(qmax * params.scale, weight.shape)
    if planned.folds is not None:
        limit = limit / activations[planned.folds].scale[:, None]
    return np.clip(weight, -limit, limit)


def owner_of(plan: Plan, name: str) -> str:
    """Returns the activation whose scale and zero point ``name`` has: often itself."""
    while name in plan.shares:
        name = plan.shares[name]
    return name


def _fitting_bias(
    params: QuantParams, weight: Array, bias: Array, input_scale: float, name: str
) -> QuantParams:
    """Returns ``params`` with scales so large that int32 holds the bias, beside tiny weights.

    Weights that are all zero (a pruned channel) have no scale of their own, and take a small one
    that holds their bias, with ``ROOM_TO_LEARN``: any other would round the bias away.

    Half the range of int32 is left for the products that are added to it. Where this widens a
    scale, the bias is 2**30 / 127 times as large as what the lost precision of the weights changes.

    Raises:
        ModelError: the scale of the bias is beyond float32.
    """
    least = np.abs(bias.astype(np.float64)) / (input_scale * 2.0**30)
    axis = params.spec.axis
    others = None if axis is None else tuple(a for a in range(weight.ndim) if a != axis)
    zero = ~np.asarray(weight.any(axis=others))
    least = least.max() if axis is None else least
    scale = np.where(zero, least * ROOM_TO_LEARN, np.maximum(params.scale, least))
    scale = np.where(scale < SMALLEST_SCALE, params.scale, scale)
    if input_scale * scale.max() > np.finfo(np.float32).max:
        raise ModelError(
            f"weight '{name}'",
            "values so large that products with the activations overflow float32",
            "finite products",
            "Check the model's weights.",
        )
    return replace(params, scale=scale.astype(np.float32))


def columns_of(plan: Plan, name: str, known: Range, constants: dict[str, Array]) -> Columns:
    """Returns the column-wise activation ``name`` beside the weights that absorb its scales."""
    readers = [w for w, weight in plan.weights.items() if weight.folds == name]
    return Columns(
        known.low,
        known.high,
        known.mean_square,
        np.concatenate([constants[weight] for weight in readers], axis=1),
        levels=plan.activations[name].qmax - plan.activations[name].qmin,
        weight_qmax=min(plan.weights[weight].spec.qmax for weight in readers),
    )


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
