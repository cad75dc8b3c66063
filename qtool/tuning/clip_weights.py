"""Weight clipping at work: scales of the least error of each layer's outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qtool.config.tuning import ClipWeights
from qtool.evaluation.results import Tuned
from qtool.graph.layers import name_of
from qtool.graph.parameters import Parameters, constants_of
from qtool.graph.plan import Plan
from qtool.numerics.output_scales import ScaledMatrix, scale_factors
from qtool.numerics.reconstruction import Floats
from qtool.progress import Progress
from qtool.tuning.moments import Moments
from qtool.tuning.products import Product, grids_of
from qtool.tuning.rounding import retuned
from qtool.tuning.tuned import Rows

ROWS = 1024
"""Calibration rows whose activations are read."""
LARGEST_BIAS = 2.0**30
"""Half the range of int32: the rest is for the products that are added to a bias."""


def clip_weights(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    section: ClipWeights,
    rows: Rows,
    progress: Progress,
) -> tuple[Parameters, list[Tuned]]:
    """Returns numbers with other weight scales, and what that did to each layer.

    Weights are rounded to nearest: what a tuning before this one chose is lost where a scale moves.

    Args:
        model: the graph of the plan, with the FP32 weights.
        plan: what is quantized, and how.
        parameters: the numbers so far.
        section: which layers.
        rows: calibration rows.
        progress: where it is shown.

    Raises:
        ConfigError: ``match`` matches no layer.
        DataError: there are no rows.
    """
    weights = constants_of(model)

    def propose(product: Product, seen: Moments, numbers: Parameters) -> Parameters:
        name, spec = product.weight, plan.weights[product.weight].spec
        grids, params = grids_of(product, plan, numbers), numbers.weights[name]
        places = np.arange(params.scale.size).reshape(params.scale.shape)
        owners = np.broadcast_to(params.broadcast(places, weights[name].shape), weights[name].shape)
        matrices = [
            ScaledMatrix(goal, grid, owner)
            for goal, grid, owner in zip(seen.goals, grids, product.matrices(owners), strict=True)
        ]
        least = _least_factors(product, plan, numbers)
        factors = scale_factors(matrices, least, spec.block).reshape(params.scale.shape)
        scale = (params.scale * factors).astype(np.float32)
        return replace(
            numbers,
            constants={**numbers.constants, name: weights[name]},
            weights={**numbers.weights, name: replace(params, scale=scale)},
        )

    return retuned(
        "clip_weights", propose, model, plan, parameters, section.match, rows, ROWS, progress
    )


def _least_factors(product: Product, plan: Plan, numbers: Parameters) -> Floats:
    """Returns how far each scale can shrink until int32 does not hold the bias any more."""
    scale = numbers.weights[product.weight].scale.astype(np.float64)
    bias = product.layer.bias
    if bias is None or name_of(bias) not in plan.biases:
        return np.zeros(scale.size)
    activation, weight = plan.biases[name_of(bias)]
    folded = plan.weights[weight].folds is not None
    step = 1.0 if folded else float(numbers.activations[activation].scale)
    needed = np.abs(numbers.constants[name_of(bias)].astype(np.float64)) / (LARGEST_BIAS * step)
    return np.atleast_1d((needed if scale.ndim else needed.max()) / scale)
