"""Constants that belong to one node.

An initializer that several places share is copied where a layer is quantized: each place has scales
and an int32 bias of its own. Training keeps equal copies of one weight one parameter
(``torchgraph.importer``).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.graph.model_file import constant

OWNERS = frozenset({"BatchNormalization", "Conv", "GRU", "LSTM", "RNN"})


def own_constants(model: ir.Model) -> None:
    """Gives every node of ``OWNERS`` in ``model`` its own float32 constants, in place."""
    for node in model.graph:
        if node.op_type not in OWNERS or node.domain != "":
            continue
        for index, value in enumerate(node.inputs):
            array = constant(value)
            if index and array is not None and array.dtype == np.float32 and _is_shared(value):
                assert value is not None
                own(model.graph, node, index, array.astype(np.float32), str(value.name))


def _is_shared(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) > 1


def own(graph: ir.Graph, node: ir.Node, index: int, array: NDArray[np.float32], name: str) -> None:
    """Makes ``array`` the node's own initializer, under ``name`` if no other node uses that."""
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    previous = node.inputs[index]
    node.replace_input_with(index, None)
    unread = previous is not None and not previous.uses() and not previous.is_graph_output()
    if previous is not None and unread and previous.name in graph.initializers:
        graph.initializers.pop(str(previous.name))
    unique, suffix = name, 1
    while unique in graph.initializers:
        unique, suffix = f"{name}_{suffix}", suffix + 1
    value = ir.val(unique, const_value=ir.tensor(array, name=unique))
    graph.register_initializer(value)
    node.replace_input_with(index, value)
