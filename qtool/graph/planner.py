"""Makes the plan for a prepared graph: who gets which method, and what follows from that."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

import onnx_ir as ir

from qtool.config.quantization import (
    Calibrated,
    FastestQuantization,
    Observer,
    Planned,
    StaticQuantization,
)
from qtool.errors import ConfigError
from qtool.graph.code_regions import MOVES, Codes, find_codes
from qtool.graph.costs import Workload, fastest_methods
from qtool.graph.layers import Layer, layers_of, name_of, reason_of, why_not
from qtool.graph.plan import NodePlan, Plan, Treatment, WeightPlan
from qtool.graph.rules import NO_RULE, Ruled, apply_rules
from qtool.graph.tables import absorbed_tables, is_column_wise, tabular_values
from qtool.graph.targets import Target
from qtool.numerics.affine import QuantSpec

Chosen = Mapping[ir.Node, tuple[Treatment, str]]
"""Layer → method and reason."""


def make_plan(
    model: ir.Model,
    model_sha256: str,
    section: Planned,
    target: Target,
    workload: Workload | None = None,
) -> Plan:
    """Returns the plan for the prepared ``model``.

    Args:
        model: the prepared graph.
        model_sha256: its digest.
        section: method, options and layer rules.
        target: the CPU to write for.
        workload: what the model will be asked; only ``fastest`` needs it.

    Raises:
        ConfigError: a layer rule matches no node, asks for what its layer cannot be, or says
            something of a method that none of its layers has.
    """
    layers = layers_of(model)
    ruled = apply_rules(model, layers, section.layers)
    chosen = _choose(layers, ruled, section, target, workload)
    static = {node: layers[node] for node, (method, _) in chosen.items() if method == "static"}
    if static and not isinstance(section, StaticQuantization | FastestQuantization):
        raise ConfigError(
            "quantization.layers",
            f"a layer is to be static under the method {section.method}",
            "method static or fastest, which calibrate",
            "Set quantization.method to static and give the other layers rules.",
        )
    _check_used(section, chosen, ruled)
    kept_float = {str(node.name) for node, rule in ruled.items() if rule.method == "float"}
    codes = find_codes(model, static, kept_float)
    shared = isinstance(section, Calibrated) and section.columns == "shared"
    columns = frozenset() if shared else tabular_values(model)
    activations = _activations(model, static, codes, target, columns)
    weights, biases = _weights(chosen, layers, ruled, activations, section, target)
    # Their Add is part of the integer kernel.
    with_bias = {
        layer.add: layer
        for node, layer in layers.items()
        if layer.add is not None and chosen[node][0] not in ("float", "storage")
    }
    plan = Plan(
        method=section.method,
        target=target.name,
        model_sha256=model_sha256,
        nodes=tuple(_node_plan(node, chosen, ruled, codes, with_bias) for node in model.graph),
        activations=activations,
        weights=weights,
        biases=biases,
        shares=codes.shares,
        observers=_observers(static, ruled, codes),
    )
    return _with_absorbed_tables(model, plan)


def _choose(
    layers: Mapping[ir.Node, Layer],
    ruled: Mapping[ir.Node, Ruled],
    section: Planned,
    target: Target,
    workload: Workload | None,
) -> dict[ir.Node, tuple[Treatment, str]]:
    chosen: dict[ir.Node, tuple[Treatment, str]] = {}
    fastest = {}
    if isinstance(section, FastestQuantization):
        if workload is None:
            raise ValueError("fastest needs a workload")
        fastest = fastest_methods(layers, target, workload)
    for node, layer in layers.items():
        rule = ruled.get(node, NO_RULE)
        if rule.method is not None:
            chosen[node] = (rule.method, f"rule '{rule.pattern}'")
        elif node in fastest:
            chosen[node] = fastest[node]
        else:
            chosen[node] = _by_method(layer, section.method)
    return chosen


def _by_method(layer: Layer, method: str) -> tuple[Treatment, str]:
    """What a method for the whole model means for one layer."""
    if layer.kind == "table":
        return "storage", reason_of(layer, "storage")
    if layer.kind == "product":
        return "float", "a product of two activations: fastest or a rule makes it static"
    reason = why_not(layer, method)  # type: ignore[arg-type]
    if reason is not None:
        return "float", f"{reason}; fastest or a rule can choose another method"
    return method, reason_of(layer, method)  # type: ignore[return-value,arg-type]


def _check_used(section: Planned, chosen: Chosen, ruled: Mapping[ir.Node, Ruled]) -> None:
    """Raises ConfigError for what a rule says of a method that no layer of it has."""
    for what, method in (
        ("observer", "static"),
        ("bits", "weight_only"),
        ("block_size", "weight_only"),
    ):
        of = [
            node
            for node, rule in ruled.items()
            if node in chosen and getattr(rule, what) is not None
        ]
        if of and all(chosen[node][0] != method for node in of):
            raise ConfigError(
                "quantization.layers",
                f"a rule sets {what}, and none of its layers is {method}",
                f"a layer of method {method}",
                f"Set method: {method} in the rule, or remove {what}.",
            )


def _observers(
    static: Mapping[ir.Node, Layer], ruled: Mapping[ir.Node, Ruled], codes: Codes
) -> dict[str, Observer]:
    """Returns the observers of what layers with an observer of their own read.

    Raises:
        ConfigError: two layers that read one activation have different ones.
    """
    found: dict[str, Observer] = {}
    for node, layer in static.items():
        observer = ruled.get(node, NO_RULE).observer
        if observer is None:
            continue
        for index in layer.inputs:
            name = name_of(node.inputs[index])
            while name in codes.shares:
                name = codes.shares[name]
            if found.setdefault(name, observer) != observer:
                raise ConfigError(
                    "quantization.layers",
                    f"two observers for '{name}', which {node.name} and another layer read",
                    "one range for what several layers read",
                    "Give these layers the same observer.",
                )
    return found


def _activations(
    model: ir.Model,
    static: Mapping[ir.Node, Layer],
    codes: Codes,
    target: Target,
    columns: Collection[str],
) -> dict[str, QuantSpec]:
    """Returns the spec of every activation; those in ``columns`` may have a scale per column."""
    values = {str(v.name): v for v in (*model.graph.inputs, *_outputs(model))}
    dense = {node for node, layer in static.items() if layer.kind == "dense"}
    found = {}
    for name in codes.values:
        if name in codes.weight_like:
            found[name] = target.weight(axis=None, calibrated=False)
        else:
            column_wise = name in columns and _only_feeds(values[name], dense)
            found[name] = target.activation(columns=column_wise)
    return found


def _outputs(model: ir.Model) -> list[ir.Value]:
    return [value for node in model.graph for value in node.outputs]


def _weights(
    chosen: Chosen,
    layers: Mapping[ir.Node, Layer],
    ruled: Mapping[ir.Node, Ruled],
    activations: dict[str, QuantSpec],
    section: Planned,
    target: Target,
) -> tuple[dict[str, WeightPlan], dict[str, tuple[str, str]]]:
    weights: dict[str, WeightPlan] = {}
    biases: dict[str, tuple[str, str]] = {}
    for node, (method, _) in chosen.items():
        layer = layers[node]
        if method == "float":
            continue
        for index in layer.weights:
            spec = _weight_spec(layer, method, ruled.get(node, NO_RULE), section, target)
            folds = None
            if method == "static" and is_column_wise(activations, name_of(node.inputs[0])):
                folds = name_of(node.inputs[0])
            weights[name_of(node.inputs[index])] = WeightPlan(spec, folds)
        # A MatMul's bias stays in float: its kernel adds it after the scales.
        if method == "static" and layer.bias is not None and node.op_type != "MatMul":
            biases[name_of(layer.bias)] = (name_of(node.inputs[0]), name_of(layer.weight()))
    return weights, biases


def _weight_spec(
    layer: Layer, method: Treatment, rule: Ruled, section: Planned, target: Target
) -> QuantSpec:
    outputs = 0 if layer.kind == "conv" else 1
    if method == "weight_only":
        bits, block = rule.bits or section.bits, rule.block_size or section.block_size
        return QuantSpec("int8", symmetric=True, bits=bits, block=block)
    if method == "storage":
        return QuantSpec("int8", symmetric=True, axis=outputs)
    calibrated = method == "static"
    if layer.kind in ("lstm", "conv"):
        # An LSTM has one scale per direction; one per channel costs a convolution nothing.
        return target.weight(axis=0, calibrated=calibrated)
    return target.weight(axis=outputs if section.per_channel else None, calibrated=calibrated)


def _node_plan(
    node: ir.Node,
    chosen: Chosen,
    ruled: Mapping[ir.Node, Ruled],
    codes: Codes,
    biases: Mapping[ir.Node, Layer],
) -> NodePlan:
    """Returns the plan of one node; ``biases``: Add → the layer that does its work."""
    name = str(node.name)
    if node in chosen:
        return NodePlan(name, node.op_type, *chosen[node])
    if name in codes.nodes:
        return NodePlan(name, node.op_type, "static", codes.nodes[name])
    if ruled.get(node, NO_RULE).method == "float":
        return NodePlan(name, node.op_type, "float", f"rule '{ruled[node].pattern}'")
    if node in biases:
        layer = biases[node].node
        reason = f"bias of {layer.name}"
        return NodePlan(name, node.op_type, chosen[layer][0], reason, part_of=str(layer.name))
    return NodePlan(name, node.op_type, *_why_nothing(node))


def _why_nothing(node: ir.Node) -> tuple[Treatment, str]:
    """Why a node that is no layer and lies on no codes is left as it is."""
    if any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()):
        return "float", "control flow: its sub-graphs stay as they are"
    if node.domain not in ("", "ai.onnx"):
        return "float", f"operator of domain {node.domain}: no INT8 form is known"
    if node.op_type in ("Shape", "Size"):
        return "unchanged", "reads a shape, no values"
    dtypes = [value.dtype for value in node.inputs if value is not None and value.dtype]
    floats = {dtype for dtype in dtypes if dtype.is_floating_point()}
    if dtypes and not floats:
        return "unchanged", "works on integers or text"
    if floats - {ir.DataType.FLOAT}:
        return "float", "only float32 is quantized"
    if node.op_type in MOVES:
        return "unchanged", "moves values, computes nothing"
    if node.op_type == "Gemm":
        return "float", "not a float32 input times a constant float32 matrix plus a constant vector"
    return "float", f"qtool has no faster INT8 form of {node.op_type}"


def _with_absorbed_tables(model: ir.Model, plan: Plan) -> Plan:
    """Returns the plan with tables that are stored in the codes of a tabular input.

    They need no scales of their own, and the Concat that joins them works on codes.
    """
    absorbed = absorbed_tables(model, plan)
    tables = {table for parts in absorbed.values() for table in parts.values()}
    weights = {name: weight for name, weight in plan.weights.items() if name not in tables}
    by_name = {str(node.name): node for node in model.graph}
    nodes = tuple(
        _on_column_codes(node, by_name[node.name], absorbed, tables) for node in plan.nodes
    )
    return dataclasses.replace(plan, nodes=nodes, weights=weights)


def _on_column_codes(
    planned: NodePlan, node: ir.Node, absorbed: dict[str, dict[str, str]], tables: set[str]
) -> NodePlan:
    output = str(node.outputs[0].name)
    if planned.treatment == "storage" and name_of(node.inputs[0]) in tables:
        owner = next(name for name, parts in absorbed.items() if output in parts)
        return dataclasses.replace(planned, reason=f"8-bit codes in the scales of {owner}")
    if output in absorbed and node.op_type == "Concat":
        return dataclasses.replace(planned, treatment="static", reason="joins 8-bit codes")
    return planned


def _only_feeds(value: ir.Value, dense: set[ir.Node]) -> bool:
    if value.is_graph_output():
        return False
    return all(use.node in dense for use in value.uses())
