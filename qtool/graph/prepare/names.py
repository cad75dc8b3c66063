"""Gives every node a name that a person can use in a layer rule."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from qtool.graph.model_file import constant


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


def _module_name(node: ir.Node) -> str | None:
    for value in node.inputs:
        if (
            value is not None
            and constant(value) is not None
            and str(value.name).endswith(".weight")
        ):
            return str(value.name).removesuffix(".weight")
    return None
