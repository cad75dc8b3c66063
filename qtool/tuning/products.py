"""Quantized weights as matrices, whatever their layer: what tunings of numbers work on.

A dense layer multiplies its input, a convolution the patches of its input (im2col), a recurrent
layer its input and its own hidden states. Each becomes ``rows @ matrix`` with one matrix (K, N) per
group: of a convolution its groups, of recurrent weights the directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.layers import Layer, name_of, value_at
from qtool.graph.parameters import Parameters, fold, narrow_spec
from qtool.graph.plan import Plan
from qtool.numerics.affine import Codes, dequantize, quantize
from qtool.numerics.reconstruction import Grid
from qtool.runtime.sessions import Session


@dataclass(frozen=True, eq=False)
class Product:
    """One constant of a layer, and what it multiplies.

    Attributes:
        layer: the layer.
        weight: name of the initializer.
        source: the value that holds what is multiplied.
        groups: matrices that the weight consists of.
        inputs: K, the numbers that each output of a group adds up.
    """

    layer: Layer
    weight: str
    source: ir.Value
    groups: int
    inputs: int

    @property
    def reads_itself(self) -> bool:
        """Whether it multiplies the hidden states that its layer makes."""
        return self.source is self.layer.node.outputs[0]

    def matrices(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """Returns (groups, K, N) of an array shaped as the weight."""
        if self.layer.kind == "dense":
            return tensor[None]
        return tensor.reshape(self.groups, -1, self.inputs).swapaxes(1, 2)

    def tensor(self, matrices: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Returns the array of the weight's ``shape`` that ``matrices`` makes (groups, K, N) of."""
        if self.layer.kind == "dense":
            return np.asarray(matrices[0])
        return matrices.swapaxes(1, 2).reshape(shape)


def products_of(layer: Layer) -> tuple[Product, ...]:
    """Returns the products with constants that a layer computes, none for a table."""
    node = layer.node
    if layer.kind in ("table", "product"):
        return ()
    shape = shape_of(layer.weight())
    weight, source = name_of(layer.weight()), value_at(node, 0)
    if layer.kind == "dense":
        return (Product(layer, weight, source, 1, shape[0]),)
    if layer.kind == "conv":
        groups = node.attributes.get_int("group", 1)
        return (Product(layer, weight, source, groups, int(np.prod(shape[1:]))),)
    states = Product(layer, name_of(value_at(node, 2)), node.outputs[0], shape[0], hidden(node))
    own = Product(layer, weight, source, 1, shape[-1])
    # A GRU that resets the state before the product multiplies something that it keeps to itself.
    resets = layer.kind == "gru" and not node.attributes.get_int("linear_before_reset", 0)
    return (own,) if resets else (own, states)


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Returns the shape of a constant."""
    assert value.const_value is not None
    return tuple(value.const_value.shape.numpy())


def hidden(node: ir.Node) -> int:
    """Returns the hidden size of a recurrent layer."""
    return shape_of(value_at(node, 2))[-1]


def rows_of(product: Product, opset: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Returns what makes rows (groups, n, K) of the source's values.

    Args:
        product: what is multiplied.
        opset: of the model.
    """
    node, inputs = product.layer.node, product.inputs
    if product.layer.kind == "conv":
        return _patches(product, opset)
    if product.reads_itself:
        # (steps, directions, rows, hidden), with layout 1 (rows, steps, directions, hidden)
        axis = 2 if node.attributes.get_int("layout", 0) else 1
        return lambda x: np.moveaxis(x, axis, 0).reshape(product.groups, -1, inputs)
    return lambda x: x.reshape(1, -1, inputs)


def _patches(product: Product, opset: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The patches, made by a convolution with the same window whose weights are single ones.

    So strides, dilations and every kind of padding mean what they mean in the runtime.
    """
    node = product.layer.node
    kernel = shape_of(product.layer.weight())[2:]
    taps = int(np.prod(kernel))
    channels = product.groups * product.inputs // taps
    ones = np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel)
    source = ir.val("x", ir.DataType.FLOAT, [None, channels, *[None] * len(kernel)])
    weight = ir.val("w", const_value=ir.tensor(np.tile(ones, (channels, *[1] * (ones.ndim - 1)))))
    attributes = {**node.attributes, "group": ir.AttrInt64("group", channels)}
    conv = ir.Node("", "Conv", [source, weight], attributes.values(), name="patches")
    conv.outputs[0].name = "y"
    conv.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [source], conv.outputs, nodes=[conv], initializers=[weight], opset_imports={"": opset}
    )
    session = Session(ir.Model(graph, ir_version=10), f"patches of {node.name}")

    def rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
        found = np.moveaxis(session.run({"x": x})["y"], 1, -1)
        return found.reshape(-1, product.groups, product.inputs).swapaxes(0, 1)

    return rows


def grids_of(product: Product, plan: Plan, parameters: Parameters) -> list[Grid]:
    """Returns the numbers that each group's weights may take, in units of the float weight."""
    planned, params = plan.weights[product.weight], parameters.weights[product.weight]
    shape = parameters.constants[product.weight].shape
    step = np.broadcast_to(params.broadcast(params.scale.astype(np.float64), shape), shape)
    if planned.folds is not None:
        step = step / parameters.activations[planned.folds].scale.astype(np.float64)[:, None]
    qmax = np.full(shape, planned.spec.qmax, np.float64)
    if planned.narrow:
        assert planned.spec.axis is not None
        at = [slice(None)] * len(shape)
        at[planned.spec.axis] = list(planned.narrow)  # type: ignore[call-overload]
        qmax[tuple(at)] = narrow_spec(planned.spec).qmax
    steps, limits = product.matrices(step), product.matrices(qmax)
    return [Grid(one, limit[0]) for one, limit in zip(steps, limits, strict=True)]


def codes_of(product: Product, plan: Plan, parameters: Parameters) -> Codes:
    """Returns the codes (groups, K, N) that the writer gives the weight."""
    planned = plan.weights[product.weight]
    real = fold(parameters.constants[product.weight], planned.folds, parameters.activations)
    return product.matrices(quantize(real, parameters.weights[product.weight]))


def with_codes(
    product: Product, plan: Plan, parameters: Parameters, codes: NDArray[Any]
) -> Parameters:
    """Returns parameters whose weight is on the grid, so that the writer gives it these codes.

    Args:
        product: whose weight.
        plan: says what the weight absorbs.
        parameters: all numbers.
        codes: (groups, K, N).
    """
    planned, params = plan.weights[product.weight], parameters.weights[product.weight]
    shape = parameters.constants[product.weight].shape
    real = dequantize(product.tensor(codes, shape).astype(params.spec.dtype), params)
    if planned.folds is not None:
        # Off by two roundings, a millionth of half a step at most: it is rounded to the same code.
        real = real / parameters.activations[planned.folds].scale[:, None]
    constants = {**parameters.constants, product.weight: np.asarray(real, np.float32)}
    return replace(parameters, constants=constants)
