"""The quantizer of each planned tensor: a function of its float value and the scales it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtool.graph.parameters import owner_of
from qtool.graph.plan import Plan
from qtool.numerics.affine import QuantParams
from qtool.torchgraph.fake_quant import (
    fake_quantize,
    fake_quantize_columns,
    fake_quantize_sum,
    round_bias,
)
from qtool.torchgraph.nodes import Operator


class Quantizer(NamedTuple):
    """``function(value, *scales)``, where ``scales`` names activations and weights of the plan.

    ``clamps_at_zero``: no code stands for a negative number.
    """

    function: Operator
    scales: tuple[str, ...]
    clamps_at_zero: bool = False


def weight_quantizers(plan: Plan, params: Mapping[str, QuantParams]) -> dict[str, Quantizer]:
    """Returns the quantizer of every planned weight by name."""
    found = {}
    for name, planned in plan.weights.items():
        folds = () if planned.folds is None else (planned.folds,)
        found[name] = Quantizer(_weight(params[name]), (name, *folds))
    return found


def bias_quantizers(plan: Plan) -> dict[str, Quantizer]:
    """Returns the quantizer of every int32 bias by name."""
    found = {}
    for name, (activation, weight) in plan.biases.items():
        folded = plan.weights[weight].folds is not None
        scales = (weight,) if folded else (weight, owner_of(plan, activation))
        found[name] = Quantizer(_bias, scales)
    return found


def activation_quantizers(plan: Plan, params: Mapping[str, QuantParams]) -> dict[str, Quantizer]:
    """Returns the quantizer of every planned activation by name."""
    found = {}
    for name in plan.activations:
        owner = owner_of(plan, name)
        lowest = params[owner].spec.qmin
        at_zero = params[owner].spec.axis is None and int(params[owner].zero_point) == lowest
        found[name] = Quantizer(_activation(params[owner]), (owner,), at_zero)
    return found


def sum_quantizer(addends: tuple[QuantParams, QuantParams], params: QuantParams) -> Operator:
    """Returns the quantizer of a sum on codes: a function of both addends and three scales."""
    a_zero, b_zero, zero = (int(each.zero_point) for each in (*addends, params))

    def quantize(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, scale: Tensor) -> Tensor:
        scales, count = (a_scale, b_scale), a.shape[1:].numel()
        zeros = (a_zero, b_zero, zero)
        return fake_quantize_sum((a, b), scales, scale, zeros, params.spec, count)

    return quantize


def _weight(params: QuantParams) -> Operator:
    def quantize(weight: Tensor, scale: Tensor, folded: Tensor | None = None) -> Tensor:
        count = weight.numel() // scale.numel()
        if folded is None:
            return fake_quantize(weight, scale, 0, params.spec, count)
        rows = folded[:, None]
        return fake_quantize(rows * weight, scale, 0, params.spec, count) / rows

    return quantize


def _bias(bias: Tensor, weight_scale: Tensor, activation_scale: Tensor | None = None) -> Tensor:
    if activation_scale is None:
        return round_bias(bias, weight_scale)
    return round_bias(bias, activation_scale * weight_scale)


def _activation(params: QuantParams) -> Operator:
    spec = params.spec
    if spec.axis is not None:
        zero_points = torch.from_numpy(params.zero_point.astype(np.float32))
        return lambda x, scale: fake_quantize_columns(x, scale, zero_points.to(x.device), spec)
    zero_point = int(params.zero_point)
    return lambda x, scale: fake_quantize(x, scale, zero_point, spec, count=x.shape[1:].numel())
