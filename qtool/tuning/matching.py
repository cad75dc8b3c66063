"""Which layers of a graph a tuning's ``match`` means."""

from __future__ import annotations

import onnx_ir as ir

from qtool.errors import ConfigError
from qtool.graph.layers import Layer, layers_of
from qtool.graph.rules import matching_nodes

WHERE = "quantization.tuning"


def matched_layers(model: ir.Model, pattern: str) -> list[Layer]:
    """Returns the layers whose node a glob matches, or the Add of their bias; in graph order.

    Raises:
        ConfigError: it matches no layer.
    """
    layers = layers_of(model).values()
    names = sorted(f"{layer.node.name} ({layer.kind})" for layer in layers)
    known = f"The layers are: {', '.join(names) or 'none'}."
    nodes = set(matching_nodes(model, pattern, WHERE, known))
    found = [layer for layer in layers if layer.node in nodes or layer.add in nodes]
    if not found:
        raise ConfigError(WHERE, f"'{pattern}' matches no layer", "a layer with weights", known)
    return found
