"""One treated layer cut out of its graph, in FP32 and as the writer makes it.

What is cut out are the layer and what then works on its codes; values that cross the border are
real numbers. So the change that a treatment makes where it is made can be computed from the layer's
own FP32 input by the runtime's own kernels, whatever the treatment is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.layers import Layer
from qtool.graph.model_file import constant
from qtool.graph.parameters import Parameters
from qtool.graph.plan import NodePlan, Plan
from qtool.graph.writing.writer import write
from qtool.runtime.sessions import Session

Arrays = Mapping[str, NDArray[Any]]


class Region:
    """A layer treated alone.

    Attributes:
        inputs: names of the values that it reads.
        outputs: names of the values that others read of it.
    """

    def __init__(self, model: ir.Model, layer: Layer, plan: Plan, parameters: Parameters) -> None:
        """Cuts the region out and writes it.

        Args:
            model: the prepared graph.
            layer: the only one that ``plan`` treats.
            plan: of the whole graph.
            parameters: its numbers.

        Raises:
            ModelError: the runtime refuses what was written.
        """
        on_codes = {node.name for node in plan.nodes if node.treatment == "static"}
        inside = {node for node in model.graph if node.name in on_codes} | {layer.node}
        if layer.add is not None:
            inside.add(layer.add)
        made = {value for node in inside for value in node.outputs}
        read = [value for node in model.graph if node in inside for value in node.inputs]
        inputs = [v for v in dict.fromkeys(read) if v and v not in made and constant(v) is None]
        outputs = [
            value
            for node in model.graph
            if node in inside
            for value in node.outputs
            if value.is_graph_output() or any(use.node not in inside for use in value.uses())
        ]
        self.inputs = [str(value.name) for value in inputs]
        self.outputs = [str(value.name) for value in outputs]
        graph = ir.convenience.extract(model.graph, inputs, outputs)
        graph.opset_imports.update(model.opset_imports)
        plan = _with_readers(graph, plan)
        cut = ir.Model(graph, ir_version=model.ir_version)
        known = {*self.inputs, *(str(v.name) for node in graph for v in node.outputs)}
        own = {name: p for name, p in parameters.activations.items() if name in known}
        numbers = dataclasses.replace(parameters, activations=own)
        where = f"layer {layer.node.name!r}"
        self._session = Session(write(cut, plan, numbers, {}), where, single_file_bytes=0)

    def run(self, values: Arrays) -> dict[str, NDArray[Any]]:
        """Returns the outputs of the treated layer for values of the FP32 graph."""
        found = self._session.run(values)
        return dict(zip(self.outputs, found.values(), strict=True))


def _with_readers(graph: ir.Graph, plan: Plan) -> Plan:
    """Gives every output of a cut graph the reader that it has in the whole one.

    A table whose rows are an output of the graph is no layer.
    """
    readers = []
    for index, output in enumerate(graph.outputs):
        node = ir.node("Identity", [output], name=f"{output.name}.reader")
        node.outputs[0].name = f"{output.name}.read"
        node.outputs[0].type, node.outputs[0].shape = output.type, output.shape
        graph.append(node)
        graph.outputs[index] = node.outputs[0]
        readers.append(NodePlan(str(node.name), "Identity", "unchanged", "reads"))
    return dataclasses.replace(plan, nodes=(*plan.nodes, *readers))
