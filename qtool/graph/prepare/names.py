"""Gives every node a name that a person can use in a layer rule."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from qtool.graph.model_file import constant

RESERVED = (".codes", ".scale", ".zero_point", ".q_output", ".dq_output", ".real")
"""Endings of what the writer adds to a value's name (``graph.writing``)."""


def names(model: ir.Model) -> None:
    """Names the nodes of ``model`` in place.

    A node whose constant is called ``body.0.weight`` becomes ``body.0``; other nodes keep their
    name; a node without one gets its operator's; a name that was taken gets a number.
    """
    taken: set[str] = set()
    for node in model.graph:
        base = _module_name(node) or node.name or node.op_type
        name, suffix = base, 1
        while name in taken:
            name, suffix = f"{base}_{suffix}", suffix + 1
        node.name = name
        taken.add(name)
    NameFixPass()(model)
    _free_reserved(model)


def _free_reserved(model: ir.Model) -> None:
    """Renames inner values and constants that end like the names that the writer gives."""
    ends = set(model.graph.inputs) | set(model.graph.outputs)
    values = [*model.graph.initializers.values(), *(v for n in model.graph for v in n.outputs)]
    for value in values:
        if value not in ends and str(value.name).endswith(RESERVED):
            value.name = f"{value.name}_"


def _module_name(node: ir.Node) -> str | None:
    for value in node.inputs:
        if (
            value is not None
            and constant(value) is not None
            and str(value.name).endswith(".weight")
        ):
            return str(value.name).removesuffix(".weight")
    return None
