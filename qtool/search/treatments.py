"""Plans in which some layers are treated and all others stay float, and what belongs together."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Iterable, Mapping
from typing import cast, get_args

import onnx_ir as ir

from qtool.config.quantization import Bits, Calibrated, LayerMethod, LayerRule, StaticQuantization
from qtool.graph.layers import METHODS, WHY_NOT, Layer, layers_of, name_of, value_at, why_not
from qtool.graph.plan import Plan, Treatment
from qtool.graph.planner import make_plan
from qtool.graph.targets import Target
from qtool.search.analysis import Choice

CODES, FLOATS = 8, 32
"""Bits of the weights of an integer kernel, and of a layer that stays as it is."""
FLOAT: Choice = ("float", FLOATS)


def name_of_layer(layer: Layer) -> str:
    """Returns the name of a layer: that of its node."""
    return str(layer.node.name)


def choices_of(layer: Layer) -> tuple[Choice, ...]:
    """Returns the treatments that a layer can have, ``FLOAT`` last."""
    found: list[Choice] = []
    for method in METHODS[layer.kind]:
        if why_not(layer, method) is None:
            bits = get_args(Bits) if method == "weight_only" else (CODES,)
            found += [(method, each) for each in bits]
    return (*found, FLOAT)


def refused(layer: Layer) -> dict[Treatment, str]:
    """Returns why a layer cannot have the other treatments."""
    methods = [*METHODS[layer.kind], *(m for kind, m in WHY_NOT if kind == layer.kind)]
    reasons = {method: why_not(layer, method) for method in methods}
    return {method: reason for method, reason in reasons.items() if reason is not None}


class Treatments:
    """Makes the plans of one prepared graph.

    Attributes:
        layers: by the name of their node, in graph order.
        units: layer → number of its unit: convolutions between which codes pass are one.
        behind: node that can work on codes → the layer whose codes these are.
    """

    def __init__(self, model: ir.Model, section: Calibrated, target: Target) -> None:
        """Finds the layers.

        Args:
            model: a prepared graph.
            section: how weights and columns are quantized; its rules do not count.
            target: the CPU.
        """
        self.model, self.section, self.target = model, section, target
        self.layers = {name_of_layer(layer): layer for layer in layers_of(model).values()}
        self.everything = self.plan(self.all("static"))
        static = {node.name for node in self.everything.nodes if node.treatment == "static"}
        self.behind = self._behind(static - set(self.layers))
        self.units = self._units()

    def all(self, method: Treatment, bits: int = CODES) -> dict[str, Choice]:
        """Returns the method for every layer that can have it, for tables always ``storage``."""
        found: dict[str, Choice] = {}
        for name, layer in self.layers.items():
            choice: Choice = ("storage", CODES) if layer.kind == "table" else (method, bits)
            if choice in choices_of(layer):
                found[name] = choice
        return found

    def plan(self, treated: Mapping[str, Choice]) -> Plan:
        """Returns the plan in which only some layers are treated."""
        operators = {layer.node.op_type for layer in self.layers.values() if layer.kind != "table"}
        kept = [
            *sorted(operators),
            *(name for name, layer in self.layers.items() if layer.kind == "table"),
        ]
        rules = [LayerRule(match=glob.escape(match), method="float") for match in kept]
        rules += [rule_of(name, choice) for name, choice in treated.items()]
        given = self.section.model_dump(
            include={"observer", "columns", "per_channel", "block_size"}
        )
        section = StaticQuantization.model_validate({**given, "method": "static", "layers": rules})
        return make_plan(self.model, "", section, self.target)

    def members(self, unit: int) -> list[str]:
        """Returns the layers of a unit."""
        return [name for name, number in self.units.items() if number == unit]

    def _behind(self, on_codes: Iterable[str]) -> dict[str, str]:
        """Returns, of nodes on codes, the layer whose codes they work on."""
        names, found = set(on_codes), dict[str, str]()
        by_add = {layer.add: name for name, layer in self.layers.items() if layer.add is not None}
        for node in self.model.graph:
            if node.name not in names:
                continue
            for value in node.inputs:
                producer = None if value is None else value.producer()
                if producer is None:
                    continue
                made = by_add.get(producer, str(producer.name))
                owner = made if made in self.layers else found.get(made)
                if owner is not None:
                    found[str(node.name)] = owner
        return found

    def _units(self) -> dict[str, int]:
        numbers = {name: number for number, name in enumerate(self.layers)}
        for name, layer in self.layers.items():
            if layer.kind != "conv":
                continue
            for before in self._convolutions_before(value_at(layer.node, 0)):
                joined, other = numbers[name], numbers[before]
                numbers = {
                    one: joined if number == other else number for one, number in numbers.items()
                }
        order = {number: place for place, number in enumerate(dict.fromkeys(numbers.values()))}
        return {name: order[number] for name, number in numbers.items()}

    def _convolutions_before(self, value: ir.Value) -> set[str]:
        """Returns the convolutions whose codes reach ``value`` without becoming floats."""
        found, waiting, seen = set[str](), [value], set[ir.Value]()
        while waiting:
            value = waiting.pop()
            producer = value.producer()
            if producer is None or value in seen:
                continue
            seen.add(value)
            layer = self.layers.get(str(producer.name))
            if layer is not None and layer.kind == "conv":
                found.add(str(producer.name))
            elif str(producer.name) in self.behind:
                waiting += [each for each in producer.inputs if each is not None]
        return found


def union(plans: Iterable[Plan]) -> Plan:
    """Returns a plan whose calibration sees the activations of all plans.

    An activation that is column-wise in one of them is observed by columns.
    """
    found: Plan | None = None
    for plan in plans:
        if found is None:
            found = dataclasses.replace(plan, activations={}, shares={})
        for name in plan.calibrated:
            if found.activations.get(name) is None or plan.activations[name].axis is not None:
                found.activations[name] = plan.activations[name]
    assert found is not None
    return found


def rule_of(name: str, choice: Choice) -> LayerRule:
    """Returns the rule that gives one layer a treatment."""
    method, bits = choice
    return LayerRule(
        match=glob.escape(name),
        method=cast(LayerMethod, method),
        bits=cast(Bits, bits) if method == "weight_only" else None,
    )


def reads(layer: Layer) -> list[str]:
    """Returns the activations that an integer kernel reads of a layer."""
    return [name_of(layer.node.inputs[index]) for index in layer.inputs]
