"""Makes the plan for a prepared graph: the rules of ``graph.plan`` applied to every node."""

from __future__ import annotations

import dataclasses
import fnmatch

import numpy as np
import onnx_ir as ir

from qtool.config.quantization import DynamicQuantization, LayerRule, StaticQuantization
from qtool.errors import ConfigError
from qtool.graph.model_file import constant
from qtool.graph.plan import NodePlan, Plan, WeightPlan
from qtool.graph.prepare.gemm import is_dense
from qtool.graph.targets import Target
from qtool.numerics.affine import QuantSpec

MIXES_COLUMNS = frozenset({"Gemm", "MatMul", "Conv", "LSTM", "GRU", "RNN", "Einsum", "Attention"})
"""After one of these the columns of a table have lost their separate units."""

MOVES = frozenset(
    {
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)

STORAGE = QuantSpec("int8", symmetric=True, axis=1)


def make_plan(
    model: ir.Model,
    model_sha256: str,
    section: StaticQuantization | DynamicQuantization,
    target: Target,
) -> Plan:
    """Returns the plan for the prepared ``model``.

    Raises:
        ConfigError: a layer rule matches no node.
    """
    ruled_out = _apply_rules(model, section.layers)
    treated = {str(node.name): _treat(node, section, ruled_out) for node in model.graph}
    dense = [node for node in model.graph if treated[str(node.name)].treatment == section.method]
    tables = [node for node in model.graph if treated[str(node.name)].treatment == "storage"]

    activations: dict[str, QuantSpec] = {}
    if section.method == "static":
        columns = tabular_values(model)
        for name, value in {_name(node.inputs[0]): node.inputs[0] for node in dense}.items():
            column_wise = name in columns and _only_feeds(value, dense)
            activations[name] = target.activation(columns=column_wise)

    weights, biases = {}, {}
    for node in dense:
        activation, weight, bias = (_name(value) for value in node.inputs)
        folds = activation if _is_column_wise(activations, activation) else None
        axis = 1 if section.per_channel else None
        weights[weight] = WeightPlan(target.weight(axis=axis), folds)
        biases[bias] = (activation, weight)
    for node in tables:
        if _absorbing_input(node, activations) is None:
            weights[_name(node.inputs[0])] = WeightPlan(STORAGE)
    return Plan(
        method=section.method,
        target=target.name,
        model_sha256=model_sha256,
        nodes=tuple(_on_codes(n, treated[str(n.name)], activations, dense) for n in model.graph),
        activations=activations,
        weights=weights,
        biases=biases if section.method == "static" else {},
    )


def absorbed_tables(model: ir.Model, plan: Plan) -> dict[str, dict[str, str]]:
    """Returns, per column-wise activation, part of its Concat → table stored in its codes."""
    stored = {node.name for node in plan.nodes if node.treatment == "storage"}
    found: dict[str, dict[str, str]] = {}
    for node in model.graph:
        name = _absorbing_input(node, plan.activations) if node.name in stored else None
        if name is not None:
            found.setdefault(name, {})[_name(node.outputs[0])] = _name(node.inputs[0])
    return found


def tabular_values(model: ir.Model) -> set[str]:
    """Names of the float32 values of shape (rows, columns) that no layer has mixed yet."""
    mixed: set[ir.Value] = set()
    tabular: set[str] = set()
    for value in model.graph.inputs:
        if _is_table(value):
            tabular.add(_name(value))
    for node in model.graph:
        if node.op_type in MIXES_COLUMNS or any(value in mixed for value in node.inputs):
            mixed.update(node.outputs)
            continue
        tabular.update(_name(value) for value in node.outputs if _is_table(value))
    return tabular


def _absorbing_input(node: ir.Node, activations: dict[str, QuantSpec]) -> str | None:
    """Returns the column-wise activation that the table read by the Gather ``node`` is a part of.

    Its Gather feeds one Concat along axis 1 and nothing else, row by row, and the table has no
    other reader.
    """
    table, output = node.inputs[0], node.outputs[0]
    uses = list(output.uses())
    if table is None or len(table.uses()) != 1 or len(uses) != 1 or output.is_graph_output():
        return None
    concat = uses[0].node
    if concat.op_type != "Concat" or concat.attributes.get_int("axis", 0) not in (1, -1):
        return None
    if not all(part is not None and _is_table(part) for part in concat.inputs):
        return None
    name = _name(concat.outputs[0])
    return name if _is_column_wise(activations, name) else None


def column_count(value: ir.Value) -> int:
    """Returns the number of columns of a value of shape (rows, columns)."""
    assert value.shape is not None
    count = value.shape[1]
    assert isinstance(count, int)
    return count


def _treat(
    node: ir.Node, section: StaticQuantization | DynamicQuantization, ruled_out: dict[str, str]
) -> NodePlan:
    name = str(node.name)

    def treated(treatment: str, reason: str) -> NodePlan:
        return NodePlan(name, node.op_type, treatment, reason)  # type: ignore[arg-type]

    if name in ruled_out:
        return treated("float", ruled_out[name])
    if node.domain not in ("", "ai.onnx"):
        return treated("float", f"operator of domain {node.domain}: no INT8 form is known")
    if node.op_type == "Gemm":
        x = node.inputs[0]
        if not is_dense(node) or x is None or x.dtype != ir.DataType.FLOAT:
            return treated(
                "float",
                "not a float32 input times a constant float32 matrix plus a constant vector",
            )
        if section.method == "static":
            return treated("static", "integer GEMM with calibrated ranges")
        return treated("dynamic", "integer GEMM, activation range from each batch")
    if node.op_type == "Gather" and _is_embedding(node):
        return treated("storage", "int8 table, dequantized after the lookup")
    if not any(value is not None and value.dtype == ir.DataType.FLOAT for value in node.inputs):
        return treated("unchanged", "works on integers or text")
    if node.op_type in MOVES:
        return treated("unchanged", "moves values, computes nothing")
    return treated("float", f"qtool has no faster INT8 form of {node.op_type}")


def _on_codes(
    node: ir.Node, planned: NodePlan, activations: dict[str, QuantSpec], dense: list[ir.Node]
) -> NodePlan:
    """Returns ``planned``, corrected for a node that the plan of its neighbours brings to INT8."""
    output = _name(node.outputs[0])
    absorbing = _absorbing_input(node, activations) if planned.treatment == "storage" else None
    if absorbing is not None:
        reason = f"8-bit codes in the column scales of {absorbing}"
        return dataclasses.replace(planned, reason=reason)
    if planned.reason.startswith("rule "):
        return planned
    producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if node.op_type == "Relu" and output in activations and producer in dense:
        reason = "folded into the requantization of its GEMM"
        return dataclasses.replace(planned, treatment="static", reason=reason)
    parts = [value.producer() for value in node.inputs if value is not None]
    tables = [p for p in parts if p is not None and _absorbing_input(p, activations) == output]
    if node.op_type == "Concat" and tables:
        return dataclasses.replace(planned, treatment="static", reason="joins 8-bit codes")
    return planned


def _is_embedding(node: ir.Node) -> bool:
    table = constant(node.inputs[0])
    if table is None or table.dtype != np.float32 or table.ndim != 2:
        return False
    if node.outputs[0].is_graph_output():  # which must stay float32
        return False
    return node.attributes.get_int("axis", 0) == 0


def _apply_rules(model: ir.Model, rules: list[LayerRule]) -> dict[str, str]:
    ruled_out: dict[str, str] = {}
    for rule in rules:
        matched = [
            str(node.name)
            for node in model.graph
            if fnmatch.fnmatchcase(str(node.name), rule.match)
            or fnmatch.fnmatchcase(node.op_type, rule.match)
        ]
        if not matched:
            known = ", ".join(sorted(str(n.name) for n in model.graph if is_dense(n)))
            raise ConfigError(
                "quantization.layers",
                f"'{rule.match}' matches no node",
                "a glob on a node name or an operator type",
                f"The dense layers are: {known or 'none'}.",
            )
        ruled_out.update(dict.fromkeys(matched, f"rule '{rule.match}'"))
    return ruled_out


def _only_feeds(value: ir.Value | None, dense: list[ir.Node]) -> bool:
    if value is None or value.is_graph_output():
        return False
    return all(use.node in dense for use in value.uses())


def _is_table(value: ir.Value) -> bool:
    if value.dtype != ir.DataType.FLOAT or value.shape is None or len(value.shape) != 2:
        return False
    return isinstance(value.shape[1], int)


def _is_column_wise(activations: dict[str, QuantSpec], name: str) -> bool:
    return name in activations and activations[name].axis == 1


def _name(value: ir.Value | None) -> str:
    assert value is not None
    return str(value.name)
