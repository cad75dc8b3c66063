"""What the runtime really executes: the optimised graph, node by node.

A planned integer layer that the runtime did not fuse runs in FP32 with its weight dequantized on
every call, slower than before quantization, and nothing says so. Here it is read off the optimised
graph and reported.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from qtool.runtime.sessions import Session

INTEGER_KERNELS = frozenset(
    {
        "QGemm",
        "QLinearMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulNBits",
        "QLinearConv",
    }
)


@dataclass(frozen=True)
class Kernel:
    """One node of the optimised graph."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    name: str = ""


def kernels_of(model: ir.Model | Path | bytes, where: str) -> tuple[Kernel, ...]:
    """Returns the nodes of ``model`` as the runtime optimised it for this CPU."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "optimized.onnx"
        Session(model, where, optimized_to=path)
        graph = onnx.load(str(path), load_external_data=False).graph
    return tuple(
        Kernel(node.op_type, tuple(node.input), tuple(node.output), node.name)
        for node in graph.node
    )
