"""Coverage: what was planned for every node, why, and what the runtime executes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from qtool.evaluation.results import NodeCoverage
from qtool.graph.plan import Plan
from qtool.graph.writer import codes_name
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
    return tuple(
        NodeCoverage(
            planned.name,
            planned.op_type,
            planned.treatment,
            planned.reason,
            _runs_as(nodes[planned.name], planned.treatment, by_input, by_output),
        )
        for planned in plan.nodes
    )


def not_fused(nodes: Sequence[NodeCoverage]) -> tuple[str, ...]:
    """Returns the names of layers that were planned as INT8 and run as FP32."""
    return tuple(node.name for node in nodes if node.runs_as == NOT_FUSED)


def _runs_as(
    node: ir.Node, treatment: str, by_input: dict[str, Kernel], by_output: dict[str, Kernel]
) -> str:
    output = str(node.outputs[0].name)
    if node.op_type != "Gemm" and treatment == "static":
        kernel = by_output.get(codes_name(output))
        return f"{kernel.op_type} on codes" if kernel else NOT_FUSED
    if treatment in ("static", "dynamic"):
        weight = node.inputs[1].name if node.inputs[1] is not None else ""
        kernel = by_input.get(f"{weight}.codes")
        return kernel.op_type if kernel and kernel.op_type in INTEGER_KERNELS else NOT_FUSED
    if treatment == "storage":
        table = node.inputs[0].name if node.inputs[0] is not None else ""
        kernel = by_input.get(f"{table}.codes")
        return f"{kernel.op_type} (8-bit table)" if kernel else NOT_FUSED
    kernel = by_output.get(output)
    return kernel.op_type if kernel else "fused or folded into a neighbour"
