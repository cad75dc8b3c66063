"""Layer rules: which nodes a glob of the configuration means, and whether they can follow it."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qtool.config.quantization import Bits, BlockSize, LayerMethod, LayerRule, Observer
from qtool.errors import ConfigError
from qtool.graph.layers import METHODS, Layer, why_not

WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class Ruled:
    """What the rules say of one node.

    Attributes:
        method: None where no rule names one.
        pattern: of the rule that names the method.
        observer: None where no rule names one.
        bits: of weight_only weights, likewise.
        block_size: of weight_only weights, likewise.
    """

    method: LayerMethod | None = None
    pattern: str = ""
    observer: Observer | None = None
    bits: Bits | None = None
    block_size: BlockSize | None = None

    def under(self, rule: LayerRule) -> Ruled:
        """Returns what holds after one rule more: of each thing, what the last rule says."""
        return Ruled(
            rule.method or self.method,
            self.pattern if rule.method is None else rule.match,
            rule.observer or self.observer,
            rule.bits or self.bits,
            rule.block_size or self.block_size,
        )


NO_RULE = Ruled()


def apply_rules(
    model: ir.Model, layers: Mapping[ir.Node, Layer], rules: list[LayerRule]
) -> dict[ir.Node, Ruled]:
    """Returns what the rules say of every node that one matches.

    Raises:
        ConfigError: a rule matches no node, asks for what its layer cannot be, or has wildcards
            and no layer that it matches can be that.
    """
    ruled: dict[ir.Node, Ruled] = {}
    biases = {layer.add: node for node, layer in layers.items() if layer.add is not None}
    for rule in rules:
        names = sorted(f"{node.name} ({layer.kind})" for node, layer in layers.items())
        known = f"The layers are: {', '.join(names) or 'none'}."
        matched = matching_nodes(model, rule.match, "quantization.layers", known)
        # The bias of a MatMul is an Add of its own, but no layer.
        matched = [biases.get(node, node) for node in matched]
        applied = matched if rule.method == "float" else _followers(matched, layers, rule)
        for node in applied:
            ruled[node] = ruled.get(node, NO_RULE).under(rule)
    return ruled


def matching_nodes(model: ir.Model, pattern: str, where: str, known: str) -> list[ir.Node]:
    """Returns the nodes whose name or operator type a glob matches.

    Args:
        model: the graph.
        pattern: the glob.
        where: the config key, for the error.
        known: what could have been meant, for the error.

    Raises:
        ConfigError: it matches none.
    """
    found = [
        node
        for node in model.graph
        if fnmatch.fnmatchcase(str(node.name), pattern)
        or fnmatch.fnmatchcase(node.op_type, pattern)
    ]
    if not found:
        expected = "a glob on a node name or an operator type"
        raise ConfigError(where, f"'{pattern}' matches no node", expected, known)
    return found


def _followers(
    matched: list[ir.Node], layers: Mapping[ir.Node, Layer], rule: LayerRule
) -> list[ir.Node]:
    """Returns the matched layers, with wildcards those that can have the rule's method."""
    found = [node for node in matched if node in layers]
    reasons = {
        node: None if rule.method in (None, "float") else why_not(layers[node], rule.method)
        for node in found
    }
    able = [node for node in found if reasons[node] is None]
    if able and (len(able) == len(found) or set(rule.match) & WILDCARDS):
        return able
    where = "quantization.layers"
    if not found:
        raise ConfigError(
            where,
            f"'{rule.match}' matches no layer that can be {rule.method or 'quantized'}, only "
            + ", ".join(sorted({node.op_type for node in matched})),
            "a node with weights, or a product of two activations",
        )
    node = next(node for node in found if reasons[node] is not None)
    raise ConfigError(
        where,
        f"'{rule.match}' asks for {rule.method}, "
        f"but for {node.name} ({node.op_type}) {reasons[node]}",
        f"one of {', '.join((*METHODS[layers[node].kind], 'float'))}",
    )
