"""Reading an ONNX node once, at construction: attributes, constant inputs and axes.

An operator is built by a function ``node -> function of values``. What the node fixes is read here
before the first call; what only the call knows (a shape computed from the batch) is read from the
value, which is a Python number or tuple where ``shape_values`` could keep it one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.errors import ModelError
from qtool.graph.model_file import constant

HostValue: TypeAlias = int | tuple[int, ...]
"""An int64 or bool value of rank 0 or 1 that was computed from shapes, outside of torch."""
Value: TypeAlias = Tensor | HostValue | None
"""What a slot holds; None where an optional input is left out."""
Operator = Callable[..., Any]
"""Takes the node's input values, returns one value or a tuple of the node's outputs."""
Builder = Callable[[ir.Node], Operator]
Integers = Callable[[tuple[Value, ...]], tuple[int, ...] | None]


def plain(function: Operator) -> Builder:
    """Returns a builder for an operator that has no attributes."""
    return lambda node: function


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Returns the value of an attribute, or ``default`` when the node leaves it out."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def opset(node: ir.Node) -> int:
    """Returns the ai.onnx opset of the node's graph."""
    assert node.graph is not None
    return node.graph.opset_imports[""]


def given(node: ir.Node, index: int) -> bool:
    """Returns whether the node has input ``index``."""
    return index < len(node.inputs) and node.inputs[index] is not None


def input_constant(node: ir.Node, index: int) -> NDArray[np.generic] | None:
    """Returns the array of input ``index`` when it is an initializer, else None."""
    return constant(node.inputs[index]) if index < len(node.inputs) else None


def integers(node: ir.Node, name: str, index: int) -> Integers:
    """Returns how to get a list of integers that is an attribute or, in later opsets, an input.

    Args:
        node: the node.
        name: the attribute (older opsets).
        index: the input (newer opsets).

    Returns:
        A function of the node's input values; it returns None when the list was left out.
    """
    fixed = attribute(node, name, None)
    if fixed is None:
        array = input_constant(node, index)
        fixed = None if array is None else array.ravel().tolist()
    if fixed is not None:
        values = tuple(int(value) for value in fixed)
        return lambda inputs: values
    if not given(node, index):
        return lambda inputs: None
    return lambda inputs: listed(inputs[index])


def required(values: tuple[int, ...] | None, node: ir.Node, what: str) -> tuple[int, ...]:
    """Returns ``values``; a model that leaves them out is refused."""
    if values is None:
        raise refused(node, f"has no {what}", f"the {what} that the ONNX specification requires")
    return values


def refused(node: ir.Node, found: str, expected: str, action: str = "") -> ModelError:
    """Returns the error that names the node, its operator and its domain."""
    operator = f"{node.domain or 'ai.onnx'}::{node.op_type}"
    return ModelError(f"node {node.name!r} ({operator})", found, expected, action)


def listed(value: Value) -> tuple[int, ...]:
    """Returns the elements of an integer value."""
    if isinstance(value, tuple):
        return value
    if isinstance(value, Tensor):
        return tuple(value.reshape(-1).tolist())
    assert value is not None
    return (value,)


def chosen_outputs(node: ir.Node, function: Operator) -> Operator:
    """Returns ``function``, which returns all outputs of the node, for those that have a name.

    One is returned as it is, several as a tuple, like every operator does.
    """
    named = [index for index, value in enumerate(node.outputs) if value.name]
    if len(named) == 1:
        return lambda *values: function(*values)[named[0]]
    if len(named) == len(node.outputs):
        return function

    def choose(*values: Value) -> tuple[Any, ...]:
        results = function(*values)
        return tuple(results[index] for index in named)

    return choose


def as_tensor(value: Tensor | HostValue, device: torch.device) -> Tensor:
    """Returns a value as a tensor: bool for Python bools, int64 for other numbers."""
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value, dtype=_host_dtype(value), device=device)


def _host_dtype(value: HostValue) -> torch.dtype:
    first = value[0] if isinstance(value, tuple) and value else value
    return torch.bool if isinstance(first, bool) else torch.int64
