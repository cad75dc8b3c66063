"""Bias correction: takes the mean error of every output channel out of the bias.

Rounding and clipping shift the mean of what a layer computes, for every row alike. The shift of the
outputs before the bias, E[x W] of FP32 minus E[x' W'] as quantized, is added to the bias; what
earlier layers still shift is in it.

Source: Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction",
arXiv 1906.04721, section 4.2 and appendix D (empirical bias correction, layer after layer).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qtool.config.tuning import CorrectBias
from qtool.evaluation.results import Tuned
from qtool.graph.layers import Layer, name_of
from qtool.graph.parameters import Parameters, constants_of
from qtool.graph.plan import Plan
from qtool.graph.writing.dense import bias_codes
from qtool.numerics.reconstruction import Floats
from qtool.progress import Progress
from qtool.tuning.matching import matched_layers
from qtool.tuning.moments import moments
from qtool.tuning.products import codes_of, grids_of, products_of
from qtool.tuning.rounding import NOT_BETTER, STAYS_FLOAT, stages
from qtool.tuning.tuned import Rows

CRITERION = "squared mean error of the layer's outputs, as a share of their mean square"
NO_BIAS = {
    "table": "a lookup adds no bias",
    "product": "a product of two activations adds no bias",
    "lstm": "its bias acts inside of the gates at every step",
    "gru": "its bias acts inside of the gates at every step",
}


def correct_bias(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    section: CorrectBias,
    rows: Rows,
    progress: Progress,
) -> tuple[Parameters, list[Tuned]]:
    """Returns numbers with other biases, and what that did to each layer.

    A bias that stays in float is changed in ``constants`` like those that become int32.

    Args:
        model: the graph of the plan, with the FP32 weights.
        plan: what is quantized, and how.
        parameters: the numbers so far.
        section: which layers and rows.
        rows: calibration rows.
        progress: where it is shown.

    Raises:
        ConfigError: ``match`` matches no layer.
        DataError: there are no rows.
    """
    biases = constants_of(model)
    layers = matched_layers(model, section.match)
    reasons = {layer.node: _why_not(layer, plan) for layer in layers}
    products = [p for layer in layers if not reasons[layer.node] for p in products_of(layer)]
    errors = {layer.node: (0.0, 0.0) for layer in layers}
    with progress.task("correct_bias", total=len(products)) as task:
        for stage in stages(model, products):
            seen = moments(model, plan, parameters, stage, rows(section.rows))
            for product, found in zip(stage, seen, strict=True):
                name = name_of(product.layer.bias)
                codes = codes_of(product, plan, parameters)
                grids = grids_of(product, plan, parameters)
                made = [
                    mean @ (code * grid.step)
                    for mean, grid, code in zip(found.read, grids, codes, strict=True)
                ]
                wanted = biases[name] + found.outputs.ravel() - np.concatenate(made)
                constants = {**parameters.constants, name: wanted.astype(np.float32)}
                corrected = replace(parameters, constants=constants)
                power = sum(float(goal.power.sum()) for goal in found.goals)
                before, after = (
                    float(((wanted - _written(name, plan, numbers)) ** 2).sum()) / (power or 1.0)
                    for numbers in (parameters, corrected)
                )
                if after < before:
                    parameters = corrected
                errors[product.layer.node] = before, min(before, after)
                task.advance()
    records = []
    for layer in layers:
        before, after = errors[layer.node]
        reason = reasons[layer.node] or ("" if after < before else NOT_BETTER)
        name = str(layer.node.name)
        records.append(Tuned("correct_bias", name, CRITERION, before, after, reason))
    return parameters, records


def _why_not(layer: Layer, plan: Plan) -> str:
    """Returns why the bias of a layer cannot be corrected; empty if it can."""
    if layer.kind in NO_BIAS:
        return NO_BIAS[layer.kind]
    if name_of(layer.weight()) not in plan.weights:
        return STAYS_FLOAT
    return "" if layer.bias is not None else "it has no bias"


def _written(name: str, plan: Plan, parameters: Parameters) -> Floats:
    """Returns a bias as the model has it: in float, or rounded to int32 steps."""
    bias = parameters.constants[name]
    if name not in plan.biases:
        return bias.astype(np.float64)
    activation, weight = plan.biases[name]
    scale = parameters.weights[weight].scale
    if plan.weights[weight].folds is None:
        scale = parameters.activations[activation].scale * scale
    codes, params = bias_codes(bias, np.asarray(scale, np.float32))
    return np.asarray(codes * params.scale.astype(np.float64))
