"""Coverage: what was planned for every node, why, and what the runtime executes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qtool.evaluation.results import NodeCoverage
from qtool.graph.layers import Layer, layer_of, value_at
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import codes_name
from qtool.runtime.kernels import INTEGER_KERNELS, Kernel

NOT_FUSED = "FP32, weight dequantized on every call"


def coverage(model: ir.Model, plan: Plan, kernels: Sequence[Kernel]) -> tuple[NodeCoverage, ...]:
    """Returns one entry per node of the prepared ``model``.

    Args:
        model: the prepared graph.
        plan: its plan.
        kernels: the INT8 model as the runtime optimised it.
    """
    by_input = {name: kernel for kernel in kernels for name in kernel.inputs}
    by_output = {name: kernel for kernel in kernels for name in kernel.outputs}
    nodes = {str(node.name): node for node in model.graph}
    layers = [layer for node in nodes.values() if (layer := layer_of(node)) is not None]
    biases = {str(layer.add.name): layer for layer in layers if layer.add is not None}
    return tuple(
        NodeCoverage(
            planned.name,
            planned.op_type,
            planned.treatment,
            planned.reason,
            f"part of {biases[planned.name].node.name}"
            if planned.name in biases and planned.treatment != "float"
            else _runs_as(nodes[planned.name], planned.treatment, by_input, by_output),
        )
        for planned in plan.nodes
    )


def not_fused(nodes: Sequence[NodeCoverage]) -> tuple[str, ...]:
    """Returns the names of layers that were planned as INT8 and run as FP32."""
    return tuple(node.name for node in nodes if node.runs_as == NOT_FUSED)


def _runs_as(
    node: ir.Node, treatment: str, by_input: dict[str, Kernel], by_output: dict[str, Kernel]
) -> str:
    layer = layer_of(node)
    if treatment in ("static", "dynamic", "weight_only") and layer is not None:
        return _integer_kernel(layer, by_input)
    if treatment == "static":
        output = str(node.outputs[0].name)
        kernel = by_output.get(codes_name(output))
        return f"{kernel.op_type} on codes" if kernel else "fused into a neighbour"
    if treatment == "storage" and layer is not None:
        kernel = by_input.get(f"{layer.weight().name}.codes")
        if kernel is None:
            return f"{node.op_type} in FP32, unpacked when the model is loaded"
        return f"{kernel.op_type} (8-bit table)" if layer.kind == "table" else NOT_FUSED
    kernel = by_output.get(str(node.outputs[0].name))
    return kernel.op_type if kernel else "fused or folded into a neighbour"


def _second(layer: Layer) -> str:
    return str(value_at(layer.node, layer.inputs[1]).name)


def _integer_kernel(layer: Layer, by_input: dict[str, Kernel]) -> str:
    read = f"{layer.weight().name}.codes" if layer.weights else codes_name(_second(layer))
    kernel = by_input.get(read)
    return kernel.op_type if kernel and kernel.op_type in INTEGER_KERNELS else NOT_FUSED
