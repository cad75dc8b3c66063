"""A narrower graph: the least important units go, with the slices of constants that hold them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.config.pruning import Pruning, PruningRule
from qtool.errors import ConfigError, ModelError
from qtool.evaluation.results import PrunedLayer
from qtool.graph.layers import name_of, value_at
from qtool.graph.model_file import constant
from qtool.graph.prepare.ownership import own
from qtool.graph.prepare.shapes import forget_shapes, infer_shapes
from qtool.graph.rules import matching_nodes
from qtool.pruning.units import Numbers, Units, units_of

Chosen = NDArray[np.bool_]
"""By number of the unit: whether it stays."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Units that the same layers make, and lose together."""

    layers: tuple[ir.Node, ...]
    units: Numbers


def prunable(model: ir.Model, section: Pruning) -> Units:
    """Returns the units of a prepared graph, after the rules were checked against them.

    Raises:
        ConfigError: a rule matches no node, or only layers whose units cannot go.
        ModelError: no layer has units that can.
    """
    units = units_of(model)
    free = {
        node for node, own in units.layers.items() if any(int(n) not in units.kept for n in own)
    }
    if not free:
        raise ModelError(
            "the FP32 model",
            "no layer that can be made narrower",
            "a dense layer or a convolution whose outputs only such layers read",
            f"Remove pruning. {_first_reason(units)}",
        )
    for rule in section.layers:
        known = f"The layers are: {', '.join(str(node.name) for node in units.layers)}."
        matched = matching_nodes(model, rule.match, "pruning.layers", known)
        if rule.keep < 1 and not free.intersection(matched):
            found = [node for node in matched if node in units.layers]
            why = f": {units.kept[int(units.layers[found[0]][0])]}" if found else ""
            able = ", ".join(str(node.name) for node in units.layers if node in free)
            raise ConfigError(
                "pruning.layers",
                f"'{rule.match}' matches no layer that can be made narrower{why}",
                f"a glob on one of {able}",
            )
    return units


def choose(units: Units, section: Pruning, importance: NDArray[np.float64]) -> Chosen:
    """Returns which units stay: of every group the most important ones, the first of equal ones.

    Args:
        units: of a graph.
        section: shares, and the multiple that widths are rounded up to.
        importance: float64, by number of the unit.
    """
    chosen = np.ones(len(importance), bool)
    for group in _groups(units):
        free = np.array([number for number in group.units if int(number) not in units.kept], int)
        share = max(_share(node, section) for node in group.layers)
        rounded = int(np.ceil(share * len(group.units) / section.multiple)) * section.multiple
        least = min(len(free), max(0, len(group.units) - rounded))
        order = np.argsort(-importance[free], kind="stable")
        chosen[free[order[len(free) - least :]]] = False
    return chosen


def without(model: ir.Model, units: Units, chosen: Chosen) -> ir.Model:
    """Returns a copy of the graph without the units that do not stay.

    Args:
        model: the prepared graph.
        units: of it.
        chosen: by number of the unit.
    """
    pruned = model.clone()
    nodes = dict(zip(model.graph, pruned.graph, strict=True))
    for place in units.places:
        node, kept = nodes[place.node], np.flatnonzero(chosen[place.units])
        if len(kept) == len(place.units):
            continue
        value = value_at(node, place.index)
        array = constant(value)  # may have lost slices along another axis already
        assert array is not None
        sliced = np.ascontiguousarray(array.take(kept, place.axis), np.float32)
        own(pruned.graph, node, place.index, sliced, name_of(value))
    for size in units.sizes:
        node = nodes[size.node]
        target = constant(node.inputs[1])
        assert target is not None
        changed = target.copy()
        changed[size.position] = int(chosen[size.units].sum())
        _own_shape(pruned.graph, node, changed)
    for convolution, numbers in units.depthwise.items():
        node = nodes[convolution]
        node.attributes["group"] = ir.AttrInt64("group", int(chosen[numbers].sum()))
    forget_shapes(pruned)
    infer_shapes(pruned)
    return pruned


def records_of(units: Units, chosen: Chosen, section: Pruning) -> tuple[PrunedLayer, ...]:
    """Returns the width of every layer before and after, and why it stays as it was."""
    groups = {node: group for group in _groups(units) for node in group.layers}
    records = []
    for node, own_units in units.layers.items():
        before, after = len(own_units), int(chosen[own_units].sum())
        others = [str(other.name) for other in groups[node].layers if other is not node]
        reason = ""
        if before == after:
            kept = next((units.kept[int(n)] for n in own_units if int(n) in units.kept), "")
            share = max(_share(one, section) for one in groups[node].layers)
            reason = (
                kept or f"{share:g} of {before}, rounded up to a multiple of {section.multiple}"
            )
        records.append(PrunedLayer(str(node.name), before, after, tuple(others), reason))
    return tuple(records)


def _groups(units: Units) -> list[_Group]:
    makers: dict[int, list[ir.Node]] = {}
    for node, numbers in units.layers.items():
        for number in dict.fromkeys(int(n) for n in numbers):
            makers.setdefault(number, []).append(node)
    groups: dict[tuple[ir.Node, ...], list[int]] = {}
    for number, nodes in makers.items():
        groups.setdefault(tuple(nodes), []).append(number)
    return [_Group(nodes, np.array(sorted(numbers), np.intp)) for nodes, numbers in groups.items()]


def _share(node: ir.Node, section: Pruning) -> float:
    last = next((rule for rule in reversed(section.layers) if _matches(rule, node)), None)
    return section.keep if last is None else last.keep


def _matches(rule: PruningRule, node: ir.Node) -> bool:
    names: Sequence[str] = (str(node.name), node.op_type)
    return any(fnmatch.fnmatchcase(name, rule.match) for name in names)


def _first_reason(units: Units) -> str:
    reasons = (
        f"{n.name}: {units.kept[int(own[0])]}." for n, own in units.layers.items() if own.size
    )
    return next(reasons, "")


def _own_shape(graph: ir.Graph, node: ir.Node, target: NDArray[np.generic]) -> None:
    """Gives a Reshape a target of its own."""
    name = f"{node.name}.shape"
    value = ir.val(name, const_value=ir.tensor(target, name=name))
    graph.register_initializer(value)
    node.replace_input_with(1, value)
