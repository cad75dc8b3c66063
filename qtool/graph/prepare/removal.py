"""Takes a node out of a graph."""

from __future__ import annotations

import onnx_ir as ir


def remove(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Removes ``node``: all that read its output read ``value``, an inner value, from now on.

    Where the output was one of the graph, ``value`` takes over its name.
    """
    output, name = node.outputs[0], node.outputs[0].name
    leaves = output.is_graph_output()
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    if leaves:
        value.name = name
    value.type, value.shape = output.type, output.shape
