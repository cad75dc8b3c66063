"""Tabular inputs: which values are still columns, and which embedding tables join their codes."""

from __future__ import annotations

import onnx_ir as ir

from qtool.graph.layers import name_of, value_at
from qtool.graph.plan import Plan
from qtool.numerics.affine import QuantSpec

MIXES_COLUMNS = frozenset({"Gemm", "MatMul", "Conv", "LSTM", "GRU", "RNN", "Einsum", "Attention"})
"""After one of these the columns of a table have lost their separate units."""
CODE_BITS = 8


def absorbed_tables(model: ir.Model, plan: Plan) -> dict[str, dict[str, str]]:
    """Returns, per tabular activation, part of its Concat → table stored in its codes.

    The activation has one scale per column, or one for all; only integer layers read it.
    """
    stored = {n.name for n in plan.nodes if (n.op_type, n.treatment) == ("Gather", "storage")}
    kept_float = {n.name for n in plan.nodes if n.treatment == "float"}
    tabular = tabular_values(model)
    found: dict[str, dict[str, str]] = {}
    for node in model.graph:
        concat = _absorbing_concat(node) if node.name in stored else None
        if concat is None or concat.name in kept_float:
            continue
        value = concat.outputs[0]
        name = name_of(value)
        column_wise = is_column_wise(plan.activations, name)
        if column_wise or (name in tabular and _is_codes_only(value, plan)):
            found.setdefault(name, {})[name_of(node.outputs[0])] = name_of(node.inputs[0])
    return found


def tabular_values(model: ir.Model) -> set[str]:
    """Names of the float32 values of shape (rows, columns) that no layer has mixed yet."""
    mixed: set[ir.Value] = set()
    tabular: set[str] = set()
    for value in model.graph.inputs:
        if _is_table(value):
            tabular.add(name_of(value))
    for node in model.graph:
        if node.op_type in MIXES_COLUMNS or any(value in mixed for value in node.inputs):
            mixed.update(node.outputs)
            continue
        tabular.update(name_of(value) for value in node.outputs if _is_table(value))
    return tabular


def _absorbing_concat(node: ir.Node) -> ir.Node | None:
    """Returns the Concat that the table read by the Gather ``node`` can become codes of.

    Its Gather feeds one Concat along axis 1 and nothing else, row by row, and the table has no
    other reader.
    """
    table, output = value_at(node, 0), node.outputs[0]
    uses = list(output.uses())
    if len(table.uses()) != 1 or len(uses) != 1 or output.is_graph_output():
        return None
    concat = uses[0].node
    if concat.op_type != "Concat" or concat.attributes.get_int("axis", 0) not in (1, -1):
        return None
    return concat if all(part is not None and _is_table(part) for part in concat.inputs) else None


def _is_codes_only(value: ir.Value, plan: Plan) -> bool:
    """Whether a value has codes of 8 bits, and integer layers are all that reads it."""
    spec = plan.activations.get(name_of(value))
    if spec is None or spec.bits != CODE_BITS or value.is_graph_output():
        return False
    static = {node.name for node in plan.nodes if node.treatment == "static"}
    return all(
        use.idx == 0 and use.node.name in static and _reads_a_weight(use.node, plan)
        for use in value.uses()
    )


def _reads_a_weight(node: ir.Node, plan: Plan) -> bool:
    return len(node.inputs) > 1 and name_of(node.inputs[1]) in plan.weights


def column_count(value: ir.Value) -> int:
    """Returns the number of columns of a value of shape (rows, columns)."""
    assert value.shape is not None
    count = value.shape[1]
    assert isinstance(count, int)
    return count


def _is_table(value: ir.Value) -> bool:
    if value.dtype != ir.DataType.FLOAT or value.shape is None or len(value.shape) != 2:
        return False
    return isinstance(value.shape[1], int)


def is_column_wise(activations: dict[str, QuantSpec], name: str) -> bool:
    """Whether an activation has one scale per column."""
    return name in activations and activations[name].axis == 1
