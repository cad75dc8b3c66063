"""Finds the layers whose int16 pair sums would saturate on the target: they get 7-bit weights.

Only targets without VNNI (AVX2) saturate. Their integer layers are emulated on calibration rows:
the codes of each layer's input against the codes of its weight (``numerics.saturation``). A layer
that saturates gets weights of 7 bits, with one scale per output channel so that less is lost; the
others keep 8 bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.copy_outputs import with_outputs
from qtool.graph.layers import Layer, layer_of, value_at
from qtool.graph.parameters import Parameters, Range, derive, fold
from qtool.graph.plan import Plan
from qtool.graph.targets import TARGETS
from qtool.numerics.affine import quantize, quantize_columns
from qtool.numerics.saturation import may_saturate, saturating_sums
from qtool.runtime.sessions import Session

Inputs = Mapping[str, NDArray[Any]]
SAFE_BITS = 7


def avoid_saturation(model: ir.Model, plan: Plan, ranges: dict[str, Range], rows: Inputs) -> Plan:
    """Returns ``plan`` with 7-bit weights where 8-bit ones saturate on ``rows``.

    Args:
        model: the prepared graph.
        plan: its plan.
        ranges: of the planned activations.
        rows: model inputs, a few hundred rows.
    """
    if not TARGETS[plan.target].saturates or not plan.activations:
        return plan
    parameters = derive(model, plan, ranges)
    static = {node.name for node in plan.nodes if node.treatment == "static"}
    layers = [layer for node in model.graph if (layer := layer_of(node)) is not None]
    layers = [layer for layer in layers if layer.node.name in static and layer.weights]
    read = {str(value_at(layer.node, 0).name) for layer in layers}
    session = Session(with_outputs(model, read), "calibration")
    values = {**rows, **session.run(rows)}
    reasons = {}
    for layer in layers:
        codes = _codes(values[str(value_at(layer.node, 0).name)], layer, parameters)
        reason = _saturation(codes, layer, plan, parameters)
        if reason is not None:
            reasons[layer] = reason
    return _with_safe_weights(plan, reasons)


def _codes(x: NDArray[np.float32], layer: Layer, parameters: Parameters) -> NDArray[Any]:
    params = parameters.activations[str(value_at(layer.node, 0).name)]
    return quantize_columns(x, params) if params.spec.axis == 1 else quantize(x, params)


def _saturation(
    codes: NDArray[Any], layer: Layer, plan: Plan, parameters: Parameters
) -> str | None:
    name = str(layer.weight().name)
    planned = plan.weights[name]
    real = fold(parameters.constants[name], planned.folds, parameters.activations)
    weight = quantize(real, parameters.weights[name]).astype(np.int8)
    if layer.kind == "conv":
        largest = codes.max(axis=tuple(axis for axis in range(codes.ndim) if axis != 1))
        channels = weight.shape[1]  # of one group
        groups = largest.reshape(-1, channels).max(axis=0)
        unsafe = may_saturate(groups, weight.reshape(*weight.shape[:2], -1))
        return "int16 pair sums can saturate on calibration rows" if unsafe else None
    matrix = codes.reshape(-1, codes.shape[-1])
    found = saturating_sums(matrix, weight)
    sums = len(matrix) * ((matrix.shape[1] + 1) // 2) * weight.shape[1]
    return f"{found:,} of {sums:,} int16 pair sums saturate on calibration rows" if found else None


def _with_safe_weights(plan: Plan, reasons: Mapping[Layer, str]) -> Plan:
    weights, nodes = dict(plan.weights), {node.name: node for node in plan.nodes}
    for layer, reason in reasons.items():
        planned = weights[str(layer.weight().name)]
        axis = 0 if layer.kind == "conv" else 1
        spec = dataclasses.replace(planned.spec, bits=SAFE_BITS, axis=axis)
        weights[str(layer.weight().name)] = dataclasses.replace(planned, spec=spec)
        node = nodes[str(layer.node.name)]
        nodes[node.name] = dataclasses.replace(
            node, reason=f"{node.reason}; {SAFE_BITS}-bit weights: {reason}"
        )
    return dataclasses.replace(
        plan, weights=weights, nodes=tuple(nodes[n.name] for n in plan.nodes)
    )
