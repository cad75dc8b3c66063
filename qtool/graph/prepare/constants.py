"""Registers constants that a rewrite left behind without a place of their own.

onnxscript 0.7 names the shape constant of a rewritten Flatten after its input, so that the second
Flatten of one value takes the place of the first one's constant, which is then read by a node but
held by no graph.
"""

from __future__ import annotations

import onnx_ir as ir


def register_constants(model: ir.Model) -> None:
    """Gives every constant that a node reads a name and a place in its graph, in place."""
    for graph in model.graphs():
        for node in graph:
            for value in node.inputs:
                if value is not None and _is_lost(value, graph):
                    _register(value, graph)


def _is_lost(value: ir.Value, graph: ir.Graph) -> bool:
    if value.const_value is None or value.producer() is not None or value.is_graph_input():
        return False
    return not value.is_initializer() and graph.initializers.get(str(value.name)) is not value


def _register(value: ir.Value, graph: ir.Graph) -> None:
    base, number = str(value.name), 1
    while value.name in graph.initializers:
        value.name, number = f"{base}_{number}", number + 1
    graph.register_initializer(value)
