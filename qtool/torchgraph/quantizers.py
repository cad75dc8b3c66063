"""The quantizer of each planned tensor: a function of its float value and the scales it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtool.graph.parameters import narrow_spec, owner_of
from qtool.graph.plan import Plan
from qtool.numerics.affine import QuantParams, QuantSpec
from qtool.torchgraph.fake_quant import (
    along,
    fake_quantize,
    fake_quantize_columns,
    fake_quantize_sum,
    round_bias,
)
from qtool.torchgraph.nodes import Operator

Rounding = Callable[[Tensor, Tensor], Tensor]
"""``rounding(weight, scale)``."""


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
        found[name] = Quantizer(_weight(params[name], planned.narrow), (name, *folds))
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


def _weight(params: QuantParams, narrow: tuple[int, ...]) -> Operator:
    rounded = _narrow(params, narrow) if narrow else _wide(params.spec)

    def quantize(weight: Tensor, scale: Tensor, folded: Tensor | None = None) -> Tensor:
        if folded is None:
            return rounded(weight, scale)
        rows = folded[:, None]
        return rounded(rows * weight, scale) / rows

    return quantize


def _wide(spec: QuantSpec) -> Rounding:
    return lambda x, scale: fake_quantize(x, scale, 0, spec, count=x.numel() // scale.numel())


def _narrow(params: QuantParams, channels: tuple[int, ...]) -> Rounding:
    """Learned scales and weights may not leave the 7 bits that some channels were given."""
    wide, narrow = _wide(params.spec), _wide(narrow_spec(params.spec))
    is_narrow = torch.from_numpy(np.isin(np.arange(params.scale.size), channels))

    def quantize(x: Tensor, scale: Tensor) -> Tensor:
        chosen = along(is_narrow.to(x.device), params.spec.axis, x.ndim)
        return torch.where(chosen, narrow(x, scale), wide(x, scale))

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
