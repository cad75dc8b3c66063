"""Every ONNX operator that the torch graph can run and differentiate: name → builder."""

from __future__ import annotations

from qtool.torchgraph.elementwise import ELEMENTWISE
from qtool.torchgraph.layers import LAYERS
from qtool.torchgraph.nodes import Builder
from qtool.torchgraph.shaping import SHAPING

OPERATORS: dict[str, Builder] = {**ELEMENTWISE, **LAYERS, **SHAPING}

TRAINABLE_INPUTS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Gather": (0,),
    "Gemm": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
}
"""Operator → the inputs that hold what training changes, when they are float32 initializers.

An Add whose other input is a MatMul's output holds a bias too. Constants of arithmetic (the mean
and deviation of a scaler inside the graph) are not trained.
"""
