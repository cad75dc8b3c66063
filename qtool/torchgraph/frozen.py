"""Nodes that are computed outside of torch, in float, as they are in the file.

An operator that the importer does not know need not stop the training of the rest: its nodes are
listed by name or operator, and each runs as a model of its own in whatever runtime the caller
brings. Their outputs carry no gradient, so layers in front of them are trained only by what passes
beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.graph.model_file import constant
from qtool.graph.rules import matching_nodes
from qtool.torchgraph.nodes import Operator, Value

Arrays = dict[str, NDArray[Any]]


class Frozen(NamedTuple):
    """Which nodes are frozen, and what runs them.

    Attributes:
        patterns: globs on the name of a node or its operator; each must match a node.
        load: the model of one node, and what to call it in messages → a function of its inputs by
            name to its outputs by name.
    """

    patterns: tuple[str, ...]
    load: Callable[[ir.Model, str], Callable[[Arrays], Arrays]]


def frozen_nodes(model: ir.Model, frozen: Frozen) -> dict[ir.Node, Operator]:
    """Returns what runs each frozen node: a function of the tensors of ``frozen_inputs``.

    Raises:
        ConfigError: a pattern matches no node.
    """
    operators = ", ".join(sorted({node.op_type for node in model.graph}))
    known = f"The operators are: {operators}."
    matched = [
        node
        for pattern in frozen.patterns
        for node in matching_nodes(model, pattern, "train_qat.frozen", known)
    ]
    return {node: _operator(model, node, frozen) for node in dict.fromkeys(matched)}


def read_by(node: ir.Node) -> list[ir.Value]:
    """Returns every value of the graph that a node reads, also in its sub-graphs, once each."""
    read = list(node.inputs)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            inner = ir.traversal.RecursiveGraphIterator(attribute.as_graph())
            read.extend(v for n in inner for v in n.inputs if v and v.graph is node.graph)
    return list(dict.fromkeys(value for value in read if value is not None))


def frozen_inputs(node: ir.Node) -> list[ir.Value]:
    """Returns what a node reads that is not constant: the inputs of its model."""
    return [value for value in read_by(node) if constant(value) is None]


def node_model(model: ir.Model, node: ir.Node) -> ir.Model:
    """Returns a model of one node: inputs as ``frozen_inputs``, its constants as initializers."""
    outputs = [value for value in node.outputs if value.name]
    graph = ir.convenience.extract(model.graph, frozen_inputs(node), outputs)
    graph.opset_imports.update(model.opset_imports)
    return ir.Model(graph, ir_version=model.ir_version)


def _operator(model: ir.Model, node: ir.Node, frozen: Frozen) -> Operator:
    call = frozen.load(node_model(model, node), f"frozen node {node.name!r}")
    inputs = [str(value.name) for value in frozen_inputs(node)]
    outputs = [str(value.name) for value in node.outputs if value.name]

    def run(*values: Tensor) -> Value | tuple[Tensor, ...]:
        arrays = [value.detach().cpu().numpy() for value in values]
        results = call(dict(zip(inputs, arrays, strict=True)))
        tensors = [torch.from_numpy(np.array(results[name])) for name in outputs]
        # The runtime knows the CPU only; a node without inputs is run while the graph is built.
        device = values[0].device if values else torch.device("cpu")
        moved = tuple(tensor.to(device) for tensor in tensors)
        return moved if len(moved) > 1 else moved[0]

    return run
