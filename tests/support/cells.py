"""Recurrent layers whose graph input has the rows first, as those of real models."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper
from support.graphs import model_of


def cell(kind="LSTM", bidirectional=False, states=True) -> ir.Model:
    """A recurrent layer on (batch, 5, 6); without ``states`` only the last one is an output."""
    gates, ways = (4 if kind == "LSTM" else 3), 2 if bidirectional else 1
    generator = np.random.default_rng(9)
    shapes = {"W": (ways, gates * 8, 6), "R": (ways, gates * 8, 8), "B": (ways, 2 * gates * 8)}
    constants = {
        name: generator.standard_normal(shape).astype(np.float32) / 4
        for name, shape in shapes.items()
    }
    direction = "bidirectional" if bidirectional else "forward"
    outputs, shape = (["y"], [5, ways, "batch", 8]) if states else (["", "h"], [ways, "batch", 8])
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node(
            kind, ["t", "W", "R", "B"], outputs, name="cell", hidden_size=8, direction=direction
        ),
    ]
    ends = (
        [("x", TensorProto.FLOAT, ["batch", 5, 6])],
        [(outputs[-1], TensorProto.FLOAT, shape)],
    )
    return model_of(nodes, *ends, constants)
