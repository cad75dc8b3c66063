"""Reading an ONNX node once, at construction: attributes, constant inputs and axes.

An operator is built by a function ``node -> function of tensors``. What the node fixes is read here
before the first call; what only the call knows (a shape computed from the batch) is read from the
tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor

from qtool.errors import ModelError
from qtool.graph.model_file import constant

Operator = Callable[..., Any]
"""Takes the node's input tensors (None where one is left out), returns one tensor or a tuple of
them."""
Builder = Callable[[ir.Node], Operator]
Integers = Callable[[tuple[Tensor | None, ...]], tuple[int, ...] | None]


def plain(function: Operator) -> Builder:
    """Returns a builder for an operator that has no attributes."""
    return lambda node: function


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """Returns the value of an attribute, or ``default`` when the node leaves it out."""
    found = node.attributes.get(name)
    return default if found is None else found.value


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
        A function of the node's input tensors; it returns None when the list was left out.
    """
    fixed = attribute(node, name, None)
    if fixed is None:
        array = input_constant(node, index)
        fixed = None if array is None else array.ravel().tolist()
    if fixed is not None:
        values = tuple(int(value) for value in fixed)
        return lambda tensors: values
    if index >= len(node.inputs) or node.inputs[index] is None:
        return lambda tensors: None
    return lambda tensors: _listed(tensors[index])


def required(values: tuple[int, ...] | None, node: ir.Node, what: str) -> tuple[int, ...]:
    """Returns ``values``; a model that leaves them out is refused."""
    if values is None:
        raise refused(node, f"has no {what}", f"the {what} that the ONNX specification requires")
    return values


def refused(node: ir.Node, found: str, expected: str, action: str = "") -> ModelError:
    """Returns the error that names the node, its operator and its domain."""
    operator = f"{node.domain or 'ai.onnx'}::{node.op_type}"
    return ModelError(f"node {node.name!r} ({operator})", found, expected, action)


def _listed(tensor: Tensor | None) -> tuple[int, ...]:
    assert tensor is not None
    return tuple(tensor.reshape(-1).tolist())
