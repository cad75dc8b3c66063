"""Where fake quantization goes: a plan becomes steps between the steps of the float graph.

A quantizer reads the slot of a float value and writes a slot of its own, which is read instead by
the nodes that read codes (``graph.plan``). Kernels that quantize their activation themselves
(``dynamic``, ``weight_only``) get a slot with what they make of it. The slots of a planned graph
are: those of the float graph, one per scale, one per quantized value.

Three things differ from one quantizer per value: behind a node that moves codes whose scale stays
there is none; a Relu in front of codes that start at zero is left to their lower bound, which does
the same, also to the gradient; an Add and the quantizer behind it are one step, QLinearAdd.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor

from qtool.graph.code_regions import MOVES
from qtool.graph.parameters import owner_of
from qtool.graph.plan import PRODUCTS, NodePlan, Plan
from qtool.numerics.affine import QuantParams
from qtool.torchgraph.dynamic_quant import dynamic_quantize, quantize_row_blocks
from qtool.torchgraph.folded_relus import without_folded_relus
from qtool.torchgraph.importer import TorchGraph
from qtool.torchgraph.integer_products import conv_on_codes, dense_on_codes
from qtool.torchgraph.nodes import Operator
from qtool.torchgraph.quantizers import (
    Quantizer,
    activation_quantizers,
    bias_quantizers,
    sum_quantizer,
    weight_quantizers,
)
from qtool.torchgraph.recurrent_quant import integer_lstm
from qtool.torchgraph.steps import ABSENT, Step

MOVES_CODES = MOVES | {"MaxPool", "Pad"}
LAYERS = PRODUCTS | {"Conv", "LSTM"}
"""Operators that have an integer kernel; the Add of a bias is none, though it is part of one."""
NAME = "fake quantization"


class Switches(NamedTuple):
    """What is fake-quantized: biases, which need the scales of both, only where both are."""

    weights: bool = True
    activations: bool = True


BOTH = Switches()


@dataclass(frozen=True)
class PlannedSteps:
    """What a call runs.

    Attributes:
        steps: in order.
        replaced: slot of a float value → slot of its quantized value.
        only_codes: the part of ``replaced`` whose float value the INT8 model does not have.
        slots: how many slots a call has.
    """

    steps: list[Step]
    replaced: dict[int, int]
    only_codes: dict[int, int]
    slots: int


def planned_steps(
    graph: TorchGraph, plan: Plan, params: Mapping[str, QuantParams], switches: Switches = BOTH
) -> PlannedSteps:
    """Returns the steps of ``graph`` with the quantizers of ``plan`` between them.

    Args:
        graph: the float graph.
        plan: a plan of it.
        params: parameters of every calibrated activation and planned weight; their order is that
            of the scale slots.
        switches: what is fake-quantized.

    Raises:
        ModelError: the plan names a value that the graph does not have.
    """
    return _Insertion(graph, plan, params, switches).steps()


class _Insertion:
    """One walk over the steps of the float graph."""

    def __init__(
        self,
        graph: TorchGraph,
        plan: Plan,
        params: Mapping[str, QuantParams],
        switches: Switches,
    ) -> None:
        self.graph, self.plan, self.params, self.switches = graph, plan, params, switches
        self.nodes = {node.name: node for node in plan.nodes}
        self.names = {slot: name for name, slot in graph.slots.items()}
        first = len(graph.slots) + 1
        self.scale_slots = {name: slot for slot, name in enumerate(params, start=first)}
        self.slots = first + len(params)
        self.producers = {slot: step for step in graph.steps for slot in step.outputs}
        self.constants = {graph.slot(name) for name in (*plan.weights, *plan.biases)}
        self.quantizers = self._quantizers()
        self.replaced: dict[int, int] = {}
        self.own_inputs: dict[tuple[int, str], int] = {}
        self.added: list[Step] = []

    def steps(self) -> PlannedSteps:
        """Returns the steps with the quantizers between them."""
        for slot in self.quantizers:
            if slot not in self.producers:
                self._quantize(slot)
        for step in self.graph.steps:
            # The quantizers of its inputs come before the step.
            planned = self._as_planned(step)
            self.added.append(planned)
            for slot in step.outputs:
                if slot in self.quantizers:
                    self._quantize(slot)
        relus = {node.name for node in self.plan.nodes if node.op_type == "Relu"}
        outputs = {self.graph.slots[name] for name in self.graph.output_names}
        clamping = {
            self.replaced[slot]
            for slot, quantizer in self.quantizers.items()
            if quantizer.clamps_at_zero
        }
        steps = without_folded_relus(self.added, relus, clamping, outputs)
        steps = self._sums_on_codes(steps, outputs)
        only_codes = {slot: to for slot, to in self.replaced.items() if self._only_codes(slot)}
        return PlannedSteps(steps, self.replaced, only_codes, self.slots)

    def _quantizers(self) -> dict[int, Quantizer]:
        found: dict[str, Quantizer] = {}
        if self.switches.weights:
            found |= weight_quantizers(self.plan, self.params)
        if self.switches == BOTH:
            found |= bias_quantizers(self.plan)
        if self.switches.activations:
            activations = activation_quantizers(self.plan, self.params)
            found |= {name: q for name, q in activations.items() if not self._is_moved(name)}
        return {self.graph.slot(name): quantizer for name, quantizer in found.items()}

    def _is_moved(self, name: str) -> bool:
        """Whether an activation is made of codes that have its scale already."""
        producer = self.producers.get(self.graph.slot(name))
        if producer is None or self.nodes[producer.name].op_type not in MOVES_CODES:
            return False
        if self.nodes[producer.name].treatment != "static":
            return False
        joined = self.nodes[producer.name].op_type == "Concat"
        sources = producer.inputs if joined else producer.inputs[:1]
        owner = owner_of(self.plan, name)
        return all(
            self.names[slot] in self.plan.activations
            and owner_of(self.plan, self.names[slot]) == owner
            for slot in sources
        )

    def _quantize(self, slot: int) -> None:
        quantizer = self.quantizers[slot]
        scales = (self.scale_slots[name] for name in quantizer.scales)
        self.replaced[slot] = self._add(quantizer.function, (slot, *scales))

    def _add(self, function: Operator, inputs: tuple[int, ...]) -> int:
        output = self.slots
        self.slots += 1
        self.added.append(Step(NAME, function, inputs, (output,)))
        return output

    def _as_planned(self, step: Step) -> Step:
        """Returns ``step`` reading quantized values; adds what its kernel quantizes itself."""
        node = self.nodes[step.name]
        inputs = tuple(self._read(node, slot) for slot in step.inputs)
        if node.treatment == "static" and node.op_type in LAYERS and self.switches == BOTH:
            return self._on_codes(step, inputs)
        if not self.switches.activations or node.op_type not in LAYERS:
            return step._replace(inputs=inputs)
        if node.treatment == "dynamic" and node.op_type == "LSTM":
            function = integer_lstm(self.graph.nodes[step.name])
            scales = [
                self.scale_slots[self.names[slot]] if self.switches.weights else ABSENT
                for slot in step.inputs[1:3]
            ]
            return step._replace(function=function, inputs=(*scales, *inputs))
        if node.treatment == "dynamic":
            inputs = (self._own_input(inputs[0], "uint8", dynamic_quantize), *inputs[1:])
        if node.treatment == "weight_only":
            block = self.plan.weights[self.names[step.inputs[1]]].spec.block
            assert block is not None
            round_blocks = partial(quantize_row_blocks, block=block)
            inputs = (self._own_input(inputs[0], f"block {block}", round_blocks), *inputs[1:])
        return step._replace(inputs=inputs)

    def _on_codes(self, step: Step, inputs: tuple[int, ...]) -> Step:
        """Returns the integer product of a static layer: its operands, bias or None, two scales."""
        conv = self.nodes[step.name].op_type == "Conv"
        function = conv_on_codes(step.function) if conv else dense_on_codes
        scales = []
        for slot in step.inputs[:2]:
            name = self.names[slot]
            owner = name if name in self.plan.weights else owner_of(self.plan, name)
            scales.append(self.scale_slots[owner])
        bias = inputs[2] if len(inputs) > 2 else ABSENT
        return step._replace(function=function, inputs=(*inputs[:2], bias, *scales))

    def _sums_on_codes(self, steps: list[Step], outputs: Collection[int]) -> list[Step]:
        """Returns ``steps`` with each static Add and the quantizer behind it as one step."""
        readers = Counter(slot for step in steps for slot in step.inputs)
        sums = {
            step.outputs[0]: step
            for step in steps
            if step.name in self.nodes
            and self.nodes[step.name].op_type == "Add"
            and self.nodes[step.name].leaves_codes
            and readers[step.outputs[0]] == 1
            and step.outputs[0] not in outputs
        }
        behind = {
            step.inputs[0]: step for step in steps if step.name == NAME and step.inputs[0] in sums
        }
        joined = {step.outputs: self._sum(sums[slot], step) for slot, step in behind.items()}
        return [joined.get(step.outputs, step) for step in steps if step.outputs[0] not in behind]

    def _sum(self, add: Step, quantizer: Step) -> Step:
        """Returns the step from both addends to what ``quantizer`` makes of their sum."""
        floats = {quantized: slot for slot, quantized in self.replaced.items()}
        owners = [
            owner_of(self.plan, self.names[floats.get(slot, slot)])
            for slot in (*add.inputs, *quantizer.outputs)
        ]
        *addends, total = (self.params[owner] for owner in owners)
        function = sum_quantizer((addends[0], addends[1]), total)
        scales = (self.scale_slots[owner] for owner in owners)
        return quantizer._replace(function=function, inputs=(*add.inputs, *scales))

    def _read(self, node: NodePlan, slot: int) -> int:
        stored = slot in self.constants and node.treatment not in ("float", "unchanged")
        if stored or node.treatment == "static" or self._only_codes(slot):
            return self.replaced.get(slot, slot)
        return slot

    def _only_codes(self, slot: int) -> bool:
        return slot in self.producers and self.nodes[self.producers[slot].name].leaves_codes

    def _own_input(self, slot: int, kind: str, function: Callable[[Tensor], Tensor]) -> int:
        """Returns the slot of what a kernel makes of its input; kernels of one kind share it."""
        if (slot, kind) not in self.own_inputs:
            self.own_inputs[slot, kind] = self._add(function, (slot,))
        return self.own_inputs[slot, kind]
