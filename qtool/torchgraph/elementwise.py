"""Operators that work value by value: arithmetic, comparisons, activations, casts.

Source: the ONNX operator specifications, opsets 13 to 23.
"""

from __future__ import annotations

from functools import partial, reduce

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import Builder, Operator, attribute, input_constant, plain, refused

TORCH_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.BOOL: torch.bool,
}


def _divide(left: Tensor, right: Tensor) -> Tensor:
    if left.is_floating_point():
        return torch.div(left, right)
    return torch.div(left, right, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def _pow(node: ir.Node) -> Operator:
    exponent = input_constant(node, 1)
    if exponent is None or exponent.size != 1:
        return _power
    # A Python number lets torch take the fast way for squares and roots.
    number = exponent.item()
    return lambda base, _: torch.pow(base, number).to(base.dtype)


def _clip(node: ir.Node) -> Operator:
    bounds = [input_constant(node, index) for index in (1, 2)]
    given = [index < len(node.inputs) and node.inputs[index] is not None for index in (1, 2)]
    if any(is_given and bound is None for is_given, bound in zip(given, bounds, strict=True)):
        return lambda x, low=None, high=None: torch.clamp(x, low, high)
    low, high = (None if bound is None else bound.item() for bound in bounds)
    if low is None and high is None:
        return lambda x, *_: x
    return lambda x, *_: torch.clamp(x, low, high)


def torch_dtype(node: ir.Node, name: str) -> torch.dtype:
    """Returns the dtype that attribute ``name`` says.

    Raises:
        ModelError: torch has no such type.
    """
    wanted = ir.DataType(attribute(node, name, 0))
    dtype = TORCH_DTYPES.get(wanted)
    if dtype is None:
        known = ", ".join(sorted(known.name for known in TORCH_DTYPES))
        raise refused(node, f"{name} is {wanted.name}", f"one of {known}")
    return dtype


def _cast(node: ir.Node) -> Operator:
    dtype = torch_dtype(node, "to")
    return lambda x: x.to(dtype)


def _gelu(node: ir.Node) -> Operator:
    return partial(functional.gelu, approximate=attribute(node, "approximate", "none"))


def _selu(node: ir.Node) -> Operator:
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    return lambda x: gamma * functional.elu(x, alpha)


def _hard_sigmoid(node: ir.Node) -> Operator:
    alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


def _celu(node: ir.Node) -> Operator:
    return partial(functional.celu, alpha=attribute(node, "alpha", 1.0))


def _thresholded_relu(node: ir.Node) -> Operator:
    alpha = attribute(node, "alpha", 1.0)
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


def _shrink(node: ir.Node) -> Operator:
    bias, limit = attribute(node, "bias", 0.0), attribute(node, "lambd", 0.5)
    return lambda x: torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, 0.0))


def _mod(node: ir.Node) -> Operator:
    return torch.fmod if attribute(node, "fmod", 0) else torch.remainder


def _is_inf(node: ir.Node) -> Operator:
    negative = bool(attribute(node, "detect_negative", 1))
    positive = bool(attribute(node, "detect_positive", 1))
    if negative and positive:
        return torch.isinf
    if not (negative or positive):
        return lambda x: torch.zeros_like(x, dtype=torch.bool)
    return torch.isneginf if negative else torch.isposinf


ELEMENTWISE: dict[str, Builder] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "Cast": _cast,
    "CastLike": plain(lambda x, like: x.to(like.dtype)),
    "Ceil": plain(torch.ceil),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": plain(_divide),
    "Elu": lambda node: partial(functional.elu, alpha=attribute(node, "alpha", 1.0)),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": _gelu,
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": plain(functional.hardswish),
    "IsInf": _is_inf,
    "IsNaN": plain(torch.isnan),
    "LeakyRelu": lambda node: partial(
        functional.leaky_relu, negative_slope=attribute(node, "alpha", 0.01)
    ),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": plain(lambda *tensors: reduce(torch.maximum, tensors)),
    "Mean": plain(lambda *tensors: reduce(torch.add, tensors) / len(tensors)),
    "Min": plain(lambda *tensors: reduce(torch.minimum, tensors)),
    "Mish": plain(functional.mish),
    "Mod": _mod,
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "PRelu": plain(lambda x, slope: torch.where(x < 0, slope * x, x)),
    "Pow": _pow,
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Round": plain(torch.round),
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Softplus": plain(functional.softplus),
    "Softsign": plain(functional.softsign),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": plain(lambda *tensors: reduce(torch.add, tensors)),
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": _thresholded_relu,
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
