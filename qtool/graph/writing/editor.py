"""The graph under construction, with the few steps that all forms share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.layers import Kind, Layer, layers_of
from qtool.graph.parameters import Parameters, fold
from qtool.graph.plan import NodePlan, Plan, Treatment
from qtool.numerics.affine import QuantParams, quantize

MICROSOFT = "com.microsoft"


class Editor:
    """A copy of the prepared graph that becomes the INT8 graph.

    Attributes:
        graph: the graph.
        plan: its plan.
        parameters: the numbers.
        nodes: the nodes of the prepared graph by name.
        layers: the layers of the prepared graph by their node.
        values: inputs and inner values of the prepared graph by name.
    """

    def __init__(self, model: ir.Model, plan: Plan, parameters: Parameters) -> None:
        self.model, self.graph = model, model.graph
        self.plan, self.parameters = plan, parameters
        self.nodes = {str(node.name): node for node in model.graph}
        self.layers = layers_of(model)
        self.values = {str(value.name): value for value in model.graph.inputs} | {
            str(value.name): value for node in model.graph for value in node.outputs
        }
        self._planned = {node.name: node for node in plan.nodes}

    def planned(self, node: ir.Node | None) -> NodePlan | None:
        """Returns the plan of a node of the prepared graph, None for one that was added."""
        if node is None or self.nodes.get(str(node.name)) is not node:
            return None  # added by the writer, or inside a sub-graph
        return self._planned[str(node.name)]

    def treated(self, treatment: Treatment, *kinds: Kind) -> list[Layer]:
        """Returns the layers of some kinds that are planned so, in graph order."""
        return [
            layer
            for node, layer in self.layers.items()
            if layer.kind in kinds and self._planned[str(node.name)].treatment == treatment
        ]

    def weight_codes(self, name: str) -> NDArray[np.integer]:
        """Returns the codes of a planned weight."""
        planned = self.plan.weights[name]
        real = fold(self.parameters.constants[name], planned.folds, self.parameters.activations)
        return quantize(real, self.parameters.weights[name])

    def weight_inputs(self, name: str, codes: NDArray[np.integer]) -> list[ir.Value]:
        """Adds a weight as initializers: its codes, scale and zero point."""
        params = self.parameters.weights[name]
        return [
            self.add(f"{name}.codes", codes),
            self.add(f"{name}.scale", params.scale),
            self.add(f"{name}.zero_point", params.zero_point),
        ]

    def quantization_of(self, value: ir.Value | None) -> Sequence[ir.Value]:
        """Returns codes, scale and zero point of a dequantized value: what its kernel reads."""
        producer = None if value is None else value.producer()
        assert producer is not None
        assert producer.op_type == "DequantizeLinear"
        return [known for known in producer.inputs if known is not None]

    def after(
        self,
        value: ir.Value,
        op_type: str,
        name: str,
        *constants: NDArray[np.generic] | np.generic,
        attributes: Mapping[str, int] | None = None,
    ) -> ir.Value:
        """Adds ``op_type(value, *constants)`` right after ``value`` is made; returns its output."""
        inputs = [value] + [
            self.add(f"{name}.{index}", np.asarray(array)) for index, array in enumerate(constants)
        ]
        node = ir.node(op_type, inputs, dict(attributes or {}), name=name)
        node.outputs[0].name = f"{name}_output"
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, node)
        else:
            self.graph.insert_before(self.graph[0], node)
        return node.outputs[0]

    def dequantized(
        self,
        before: ir.Node,
        name: str,
        codes: NDArray[np.integer],
        params: QuantParams,
    ) -> ir.Value:
        """Adds constant codes and their DequantizeLinear in front of a node; returns its output."""
        inputs = [
            self.add(f"{name}.codes", codes),
            self.add(f"{name}.scale", params.scale),
            self.add(f"{name}.zero_point", params.zero_point),
        ]
        attributes = {} if params.spec.axis is None else {"axis": params.spec.axis}
        node = ir.node("DequantizeLinear", inputs, attributes, name=f"{name}.dq")
        node.outputs[0].name = f"{name}.dq_output"
        self.graph.insert_before(before, node)
        return node.outputs[0]

    def replace(self, nodes: Sequence[ir.Node], fused: ir.Node) -> None:
        """Replaces ``nodes``, the last of which makes the result, by one node."""
        last = nodes[-1]
        for old, new in zip(last.outputs, fused.outputs, strict=True):
            new.type, new.shape = old.type, old.shape
        ir.convenience.replace_nodes_and_values(
            self.graph, last, nodes, [fused], last.outputs, fused.outputs
        )
        if fused.domain == MICROSOFT:
            self.model.opset_imports.setdefault(MICROSOFT, 1)

    def add(self, name: str, array: NDArray[np.generic]) -> ir.Value:
        """Adds an initializer."""
        value = ir.val(name, const_value=ir.tensor(np.asarray(array), name=name))
        self.graph.register_initializer(value)
        return value
