"""Finds the layers whose int16 pair sums would saturate on the target: they get 7-bit weights.

Only targets without VNNI (AVX2) saturate. Their integer layers are emulated on calibration rows:
the codes of each layer's input against the codes of its weight (``numerics.saturation``). A layer
that saturates gets one scale per output channel, and 7 bits in the channels that still saturate
then; everything else keeps 8 bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.copy_outputs import with_outputs
from qtool.graph.layers import Layer, layers_of, value_at
from qtool.graph.parameters import Parameters, Range, derive, fold
from qtool.graph.plan import Plan
from qtool.graph.targets import TARGETS
from qtool.numerics.affine import quantize, quantize_columns, weight_qparams
from qtool.numerics.saturation import may_saturate, saturating_sums
from qtool.runtime.sessions import Session

Inputs = Mapping[str, NDArray[Any]]
Counts = NDArray[np.int64]


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
    for layer, codes in _codes_read(model, plan, parameters, rows):
        plan = _without_saturation(plan, layer, codes, parameters)
    return plan


def saturating_shares(
    model: ir.Model, plan: Plan, parameters: Parameters, rows: Inputs
) -> dict[str, float]:
    """Returns the share of pair sums of every static layer that saturate; empty where none can.

    Of a convolution it is the share of the outputs that can.

    Args:
        model: the prepared graph.
        plan: its plan.
        parameters: its numbers, weights of 8 bits.
        rows: model inputs, a few hundred rows.
    """
    if not TARGETS[plan.target].saturates:
        return {}
    found = {}
    for layer, codes in _codes_read(model, plan, parameters, rows):
        name = str(layer.weight().name)
        real = fold(parameters.constants[name], plan.weights[name].folds, parameters.activations)
        counts = _saturating(codes, quantize(real, parameters.weights[name]), layer)
        pairs = 1 if layer.kind == "conv" else codes.size // codes.shape[-1] * -(-len(real) // 2)
        found[str(layer.node.name)] = float(counts.sum() / (len(counts) * pairs))
    return found


def _codes_read(
    model: ir.Model, plan: Plan, parameters: Parameters, rows: Inputs
) -> list[tuple[Layer, NDArray[Any]]]:
    """Returns the static layers with weights, with the codes that each reads."""
    static = {node.name for node in plan.nodes if node.treatment == "static"}
    layers = [
        layer for layer in layers_of(model).values() if layer.node.name in static and layer.weights
    ]
    read = {str(value_at(layer.node, 0).name) for layer in layers}
    session = Session(with_outputs(model, read), "calibration")
    values = {**rows, **session.run(rows)}
    return [
        (layer, _codes(values[str(value_at(layer.node, 0).name)], layer, parameters))
        for layer in layers
    ]


def _codes(x: NDArray[np.float32], layer: Layer, parameters: Parameters) -> NDArray[Any]:
    params = parameters.activations[str(value_at(layer.node, 0).name)]
    return quantize_columns(x, params) if params.spec.axis == 1 else quantize(x, params)


def _without_saturation(
    plan: Plan, layer: Layer, codes: NDArray[Any], parameters: Parameters
) -> Plan:
    name = str(layer.weight().name)
    planned = plan.weights[name]
    real = fold(parameters.constants[name], planned.folds, parameters.activations)
    found = _saturating(codes, quantize(real, parameters.weights[name]), layer)
    if not found.any():
        return plan
    spec = dataclasses.replace(planned.spec, axis=0 if layer.kind == "conv" else 1)
    per_channel = quantize(real, weight_qparams(real, spec))
    narrow = np.flatnonzero(_saturating(codes, per_channel, layer)).tolist()
    weight = dataclasses.replace(planned, spec=spec, narrow=tuple(narrow))
    reason = (
        f"int16 pair sums of {np.count_nonzero(found)} of {len(found)} outputs saturate "
        f"on calibration rows: one scale each, 7 bits in {len(narrow)}"
    )
    nodes = tuple(
        dataclasses.replace(node, reason=f"{node.reason}; {reason}")
        if node.name == layer.node.name
        else node
        for node in plan.nodes
    )
    return dataclasses.replace(plan, nodes=nodes, weights={**plan.weights, name: weight})


def _saturating(codes: NDArray[Any], weight: NDArray[Any], layer: Layer) -> Counts:
    """Counts per output; for a convolution 1 where it can saturate."""
    weight = weight.astype(np.int8)
    if layer.kind != "conv":
        return saturating_sums(codes.reshape(-1, codes.shape[-1]), weight)
    largest = codes.max(axis=tuple(axis for axis in range(codes.ndim) if axis != 1))
    channels = weight.shape[1]  # of one group
    in_group = largest.reshape(-1, channels).max(axis=0)
    taps = weight.reshape(*weight.shape[:2], -1)
    return may_saturate(in_group, taps).astype(np.int64)
