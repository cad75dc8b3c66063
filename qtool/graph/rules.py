"""Layer rules: which nodes a glob of the configuration means, and whether they can follow it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping

import onnx_ir as ir

from qtool.config.quantization import LayerRule
from qtool.errors import ConfigError
from qtool.graph.layers import METHODS, Layer, why_not


def apply_rules(
    model: ir.Model, layers: Mapping[ir.Node, Layer], rules: list[LayerRule]
) -> dict[ir.Node, tuple[str, LayerRule]]:
    """Returns the rule of every node that one matches, with its pattern; the last match wins.

    Raises:
        ConfigError: a rule matches no node, or asks for what its layer cannot be.
    """
    ruled: dict[ir.Node, tuple[str, LayerRule]] = {}
    for rule in rules:
        matched = [
            node
            for node in model.graph
            if fnmatch.fnmatchcase(str(node.name), rule.match)
            or fnmatch.fnmatchcase(node.op_type, rule.match)
        ]
        where = "quantization.layers"
        if not matched:
            known = ", ".join(
                sorted(f"{node.name} ({layer.kind})" for node, layer in layers.items())
            )
            raise ConfigError(
                where,
                f"'{rule.match}' matches no node",
                "a glob on a node name or an operator type",
                f"The layers are: {known or 'none'}.",
            )
        applied = matched if rule.method == "float" else [n for n in matched if n in layers]
        if not applied:
            raise ConfigError(
                where,
                f"'{rule.match}' matches no layer that can be {rule.method}, only "
                + ", ".join(sorted({node.op_type for node in matched})),
                "a node with weights, or a product of two activations",
            )
        for node in applied:
            reason = None if rule.method == "float" else why_not(layers[node], rule.method)
            if reason is not None:
                raise ConfigError(
                    where,
                    f"'{rule.match}' asks for {rule.method}, "
                    f"but for {node.name} ({node.op_type}) {reason}",
                    f"one of {', '.join((*METHODS[layers[node].kind], 'float'))}",
                )
            ruled[node] = (rule.match, rule)
    return ruled
