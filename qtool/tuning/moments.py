"""What quantized layers read, beside the outputs of the FP32 layers: sums over rows, streamed.

The quantized values are those of ONNX Runtime's integer kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qtool.calibration.rows import RowReader, row_count, rows_per_run
from qtool.errors import DataError
from qtool.graph.layers import name_of, value_at
from qtool.graph.parameters import Parameters, constants_of
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import codes_name
from qtool.graph.writing.writer import write
from qtool.numerics.affine import QuantParams, dequantize
from qtool.numerics.reconstruction import Floats, Reconstruction
from qtool.runtime.sessions import Session
from qtool.tuning.products import Product, rows_of
from qtool.tuning.tuned import Inputs


@dataclass(frozen=True, eq=False)
class Moments:
    """Means over all rows of what concerns one product (of a convolution: over all patches).

    Attributes:
        goals: of each group, what its weights should give back.
        read: mean of what the quantized layer reads, float64 (groups, K).
        outputs: mean of what the FP32 layer makes of it before its bias, float64 (groups, N).
    """

    goals: tuple[Reconstruction, ...]
    read: Floats
    outputs: Floats


def moments(
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    products: Sequence[Product],
    rows: Iterable[Inputs],
) -> list[Moments]:
    """Returns the moments of every product.

    Recurrent weights multiply states that they make themselves. Other weights make other states, so
    that their error against FP32 is nothing to make up for: they should give back what the FP32
    weights make of the states of the quantized model.

    Args:
        model: the graph of the plan, with the FP32 weights.
        plan: what is quantized, and how.
        parameters: the numbers that the quantized model has.
        products: of its layers.
        rows: model inputs.

    Raises:
        DataError: there are no rows.
    """
    reference = _Reader.of_float(model, products)
    quantized = _Reader.of_codes(model, plan, parameters, products)
    weights = constants_of(model)
    sums = [_Sums(product, weights[product.weight], model) for product in products]
    reader, per_run, seen = RowReader(rows), 1, 0
    while piece := reader.take(per_run):
        pairs = zip(quantized.values(piece), reference.values(piece), strict=True)
        sizes = [each.add(*pair) for each, pair in zip(sums, pairs, strict=True)]
        per_run = rows_per_run(sum(sizes) // row_count(piece))
        seen += row_count(piece)
    if not seen:
        raise DataError("quantization.tuning", "no rows", "at least one calibration row")
    return [each.moments() for each in sums]


class _Reader:
    """Runs a graph as far as products need and returns the values that they read."""

    def __init__(
        self, graph: ir.Model, values: Sequence[ir.Value], params: Sequence[QuantParams | None]
    ) -> None:
        """Cuts ``graph``, which is changed; ``params`` are those of values that are codes."""
        self.names, self.params = [str(value.name) for value in values], params
        inner = [value for value in dict.fromkeys(values) if not value.is_graph_input()]
        graph.graph.outputs[:] = inner
        RemoveUnusedNodesPass()(graph)
        self.session = Session(graph, "tuning", single_file_bytes=0) if inner else None

    @staticmethod
    def of_float(model: ir.Model, products: Sequence[Product]) -> _Reader:
        """Returns the reader of the FP32 graph."""
        copy = model.clone()
        sources = [_source(copy, product) for product in products]
        return _Reader(copy, sources, [None] * len(products))

    @staticmethod
    def of_codes(
        model: ir.Model, plan: Plan, parameters: Parameters, products: Sequence[Product]
    ) -> _Reader:
        """Returns the reader of the INT8 graph: of static layers the codes, else real values."""
        int8 = write(model, plan, parameters, {})
        made = {str(value.name): value for node in int8.graph for value in node.outputs}
        static = {node.name for node in plan.nodes if node.treatment == "static"}
        values: list[ir.Value] = []
        params: list[QuantParams | None] = []
        for product in products:
            name = name_of(product.source)
            if product.layer.node.name in static:
                values.append(made[codes_name(name)])
                params.append(parameters.activations[name])
            else:
                values.append(_source(int8, product))
                params.append(None)
        return _Reader(int8, values, params)

    def values(self, inputs: Inputs) -> list[NDArray[np.float32]]:
        """Returns the real values, in the order of the products."""
        found = {**inputs, **({} if self.session is None else self.session.run(inputs))}
        return [
            found[name] if params is None else dequantize(found[name], params)
            for name, params in zip(self.names, self.params, strict=True)
        ]


class _Sums:
    """Sums over rows, from which the moments of one product follow."""

    def __init__(self, product: Product, weight: NDArray[np.float32], model: ir.Model) -> None:
        """Starts without rows; ``weight`` is that of FP32."""
        self.rows_of, self.product = rows_of(product, model.opset_imports[""]), product
        self.weight = product.matrices(weight).astype(np.float64)
        groups, inputs, outputs = self.weight.shape
        self.count = 0
        self.read, self.outputs = np.zeros((groups, inputs)), np.zeros((groups, outputs))
        self.second, self.aim = np.zeros((groups, inputs, inputs)), np.zeros(self.weight.shape)
        self.power = np.zeros((groups, outputs))

    def add(self, read: NDArray[np.float32], meant: NDArray[np.float32]) -> int:
        """Takes what both layers read of some rows; returns the bytes that this needed."""
        x = self.rows_of(read).astype(np.float64)
        exact = x if self.product.reads_itself else self.rows_of(meant).astype(np.float64)
        y, turned = exact @ self.weight, x.swapaxes(1, 2)
        self.count += x.shape[1]
        self.read += x.sum(axis=1)
        self.outputs += y.sum(axis=1)
        self.second += turned @ x
        self.aim += turned @ y
        self.power += (y * y).sum(axis=1)
        return x.nbytes + y.nbytes

    def moments(self) -> Moments:
        """Returns the means."""
        means = (each / self.count for each in (self.second, self.aim, self.power))
        return Moments(
            tuple(map(Reconstruction, self.weight, *means)),
            self.read / self.count,
            self.outputs / self.count,
        )


def _source(graph: ir.Model, product: Product) -> ir.Value:
    """Returns what a product reads, in a copy or an INT8 form of its graph."""
    (node,) = (node for node in graph.graph if node.name == product.layer.node.name)
    if not product.reads_itself:
        return value_at(node, 0)
    states = node.outputs[0]
    if not states.name:  # nobody else reads the states of all steps
        states.name, states.type = f"{node.name}.states", ir.TensorType(ir.DataType.FLOAT)
    return states
