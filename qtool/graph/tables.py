"""Tabular inputs: which values are still columns, and which embedding tables join their codes."""

from __future__ import annotations

import onnx_ir as ir

from qtool.graph.layers import name_of, value_at
from qtool.graph.plan import Plan
from qtool.numerics.affine import QuantSpec

MIXES_COLUMNS = frozenset({"Gemm", "MatMul", "Conv", "LSTM", "GRU", "RNN", "Einsum", "Attention"})
"""After one of these the columns of a table have lost their separate units."""


def absorbed_tables(model: ir.Model, plan: Plan) -> dict[str, dict[str, str]]:
    """Returns, per column-wise activation, part of its Concat → table stored in its codes."""
    stored = {n.name for n in plan.nodes if (n.op_type, n.treatment) == ("Gather", "storage")}
    kept_float = {n.name for n in plan.nodes if n.treatment == "float"}
    found: dict[str, dict[str, str]] = {}
    for node in model.graph:
        name = _absorbing_input(node, plan.activations) if node.name in stored else None
        concat = None if name is None else next(iter(node.outputs[0].uses())).node
        if name is not None and concat is not None and concat.name not in kept_float:
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


def _absorbing_input(node: ir.Node, activations: dict[str, QuantSpec]) -> str | None:
    """Returns the column-wise activation that the table read by the Gather ``node`` is a part of.

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
    if not all(part is not None and _is_table(part) for part in concat.inputs):
        return None
    name = name_of(concat.outputs[0])
    return name if is_column_wise(activations, name) else None


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
