"""Where fake quantization goes: a plan becomes steps between the steps of the float graph.

A quantizer reads the slot of a float value and writes a slot of its own, which is read instead by
the nodes that read codes (``graph.plan``). The slots of a planned graph are: those of the float
graph, one per scale, one per quantized value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtool.graph.parameters import owner_of
from qtool.graph.plan import Plan
from qtool.numerics.affine import QuantParams
from qtool.torchgraph.fake_quant import fake_quantize, fake_quantize_columns, round_bias
from qtool.torchgraph.importer import Step, TorchGraph
from qtool.torchgraph.nodes import Operator


class Quantizer(NamedTuple):
    """``function(value, *scales)``, where ``scales`` names activations and weights of the plan."""

    function: Operator
    scales: tuple[str, ...]


def planned_steps(
    graph: TorchGraph, plan: Plan, params: Mapping[str, QuantParams]
) -> tuple[dict[int, int], list[Step]]:
    """Returns the steps of ``graph`` with the quantizers of ``plan`` between them.

    Args:
        graph: the float graph.
        plan: a static plan of it.
        params: parameters of every calibrated activation and planned weight; their order is that
            of the scale slots.

    Returns:
        The slot of each quantized value by the slot of its float value, and the steps.

    Raises:
        ModelError: the plan names a value that the graph does not have.
    """
    scale_slots = {name: slot for slot, name in enumerate(params, start=len(graph.slots) + 1)}
    quantizers = {graph.slot(name): found for name, found in _quantizers(plan, params).items()}
    first = len(graph.slots) + 1 + len(params)
    replaced = {slot: first + index for index, slot in enumerate(quantizers)}

    def quantizer_step(slot: int) -> Step:
        quantizer = quantizers[slot]
        scales = (scale_slots[name] for name in quantizer.scales)
        return Step("fake quantization", quantizer.function, (slot, *scales), (replaced[slot],))

    producers = {slot: step.name for step in graph.steps for slot in step.outputs}
    planned = {node.name: node for node in plan.nodes}
    only_codes = {slot for slot, name in producers.items() if planned[name].leaves_codes}
    constants = {graph.slot(name) for name in (*plan.weights, *plan.biases)}

    def read(step: Step, slot: int) -> int:
        quantized = slot in constants or slot in only_codes
        if quantized or planned[step.name].treatment == "static":
            return replaced.get(slot, slot)
        return slot

    steps = [quantizer_step(slot) for slot in quantizers if slot not in producers]
    for step in graph.steps:
        steps.append(step._replace(inputs=tuple(read(step, slot) for slot in step.inputs)))
        steps.extend(quantizer_step(slot) for slot in step.outputs if slot in quantizers)
    return replaced, steps


def _quantizers(plan: Plan, params: Mapping[str, QuantParams]) -> dict[str, Quantizer]:
    found = {}
    for name, planned in plan.weights.items():
        folds = () if planned.folds is None else (planned.folds,)
        found[name] = Quantizer(_weight(params[name]), (name, *folds))
    for name, (activation, weight) in plan.biases.items():
        folded = plan.weights[weight].folds is not None
        found[name] = Quantizer(_bias, (weight,) if folded else (weight, activation))
    for name in plan.activations:
        owner = owner_of(plan, name)
        found[name] = Quantizer(_activation(params[owner]), (owner,))
    return found


def _weight(params: QuantParams) -> Operator:
    zero_point = _zero_point(params)

    def quantize(weight: Tensor, scale: Tensor, folded: Tensor | None = None) -> Tensor:
        count = weight.numel() // scale.numel()
        if folded is None:
            return fake_quantize(weight, scale, zero_point, params.spec, count)
        rows = folded[:, None]
        return fake_quantize(rows * weight, scale, zero_point, params.spec, count) / rows

    return quantize


def _bias(bias: Tensor, weight_scale: Tensor, activation_scale: Tensor | None = None) -> Tensor:
    if activation_scale is None:
        return round_bias(bias, weight_scale)
    return round_bias(bias, activation_scale * weight_scale)


def _activation(params: QuantParams) -> Operator:
    zero_point = _zero_point(params)
    if params.spec.axis is not None:
        return lambda x, scale: fake_quantize_columns(x, scale, zero_point, params.spec)
    return lambda x, scale: fake_quantize(
        x, scale, zero_point, params.spec, count=x.shape[1:].numel()
    )


def _zero_point(params: QuantParams) -> Tensor:
    return torch.from_numpy(np.array(params.zero_point, np.float32))
