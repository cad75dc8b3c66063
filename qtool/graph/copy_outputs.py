"""Makes inner values of a graph visible as outputs."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir


def with_outputs(model: ir.Model, names: Collection[str]) -> ir.Model:
    """Returns a copy of ``model`` that also outputs the inner values ``names``."""
    copy = model.clone()
    present = {str(value.name) for value in (*copy.graph.inputs, *copy.graph.outputs)}
    for node in copy.graph:
        for value in node.outputs:
            if value.name in names and value.name not in present:
                copy.graph.outputs.append(value)
    return copy
