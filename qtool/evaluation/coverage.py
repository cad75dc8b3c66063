"""Coverage: what was planned for every node, why, and what the runtime executes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qtool.evaluation.results import NodeCoverage
from qtool.graph.layers import Layer, layer_of, value_at
from qtool.graph.plan import NodePlan, Plan
from qtool.graph.writing.activations import codes_name
from qtool.runtime.kernels import INTEGER_KERNELS, Kernel

NOT_FUSED = "FP32, weight dequantized on every call"


def coverage(
    model: ir.Model, plan: Plan, kernels: Sequence[Kernel] | None
) -> tuple[NodeCoverage, ...]:
    """Returns one entry per node of the prepared ``model``.

    Args:
        model: the prepared graph.
        plan: its plan.
        kernels: the INT8 model as the runtime optimised it; None when it was written for a CPU of
            another architecture, whose kernels this machine cannot tell.
    """
    runtime = None if kernels is None else _Runtime(kernels)
    nodes = {str(node.name): node for node in model.graph}
    return tuple(
        NodeCoverage(
            planned.name,
            planned.op_type,
            planned.treatment,
            planned.reason,
            f"not known here: written for {plan.target}"
            if runtime is None
            else runtime.runs_as(nodes[planned.name], planned),
        )
        for planned in plan.nodes
    )


def not_fused(nodes: Sequence[NodeCoverage]) -> tuple[str, ...]:
    """Returns the names of layers that were planned as INT8 and run as FP32."""
    return tuple(node.name for node in nodes if node.runs_as == NOT_FUSED)


class _Runtime:
    """The optimised graph, by the names that its kernels read and write."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.by_input: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            for name in kernel.inputs:
                self.by_input.setdefault(name, []).append(kernel)
        self.by_output = {name: kernel for kernel in kernels for name in kernel.outputs}

    def runs_as(self, node: ir.Node, planned: NodePlan) -> str:
        """Returns what the runtime executes for ``node``."""
        layer, treatment = layer_of(node), planned.treatment
        if planned.part_of is not None:
            return f"part of {planned.part_of}"
        if treatment in ("static", "dynamic", "weight_only") and layer is not None:
            return self._integer_kernel(layer)
        output = str(node.outputs[0].name)
        if treatment == "static":
            kernel = self.by_output.get(codes_name(output))
            return f"{kernel.op_type} on codes" if kernel else "fused into a neighbour"
        if treatment == "storage" and layer is not None:
            return self._stored(layer)
        kernel = self.by_output.get(output)
        return kernel.op_type if kernel else "fused or folded into a neighbour"

    def _integer_kernel(self, layer: Layer) -> str:
        """The kernel that reads the codes of the weight; of a product, those of an operand."""
        if layer.weights:
            read = [f"{layer.weight().name}.codes"]
        else:
            operands = (value_at(layer.node, index) for index in layer.inputs)
            read = [codes_name(str(value.name)) for value in operands]
        kernels = [kernel for name in read for kernel in self.by_input.get(name, [])]
        # The runtime moves transpositions about, and renames what they move.
        kernels += [
            self.by_output[name] for name in (str(layer.output.name),) if name in self.by_output
        ]
        names = (kernel.op_type for kernel in kernels)
        return next((name for name in names if name in INTEGER_KERNELS), NOT_FUSED)

    def _stored(self, layer: Layer) -> str:
        readers = self.by_input.get(f"{layer.weight().name}.codes")
        if not readers:
            return f"{layer.node.op_type} in FP32, unpacked when the model is loaded"
        return f"{readers[0].op_type} (8-bit table)" if layer.kind == "table" else NOT_FUSED
