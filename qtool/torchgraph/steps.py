"""The calls that a torch graph is made of, and how a node becomes one.

A step reads and writes numbered slots. Its function is the node's operator, given tensors where it
wants them; a node that only computes with shapes runs on Python numbers (``shape_values``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx_ir as ir
import torch
from torch import Tensor

from qtool.errors import ModelError
from qtool.torchgraph.frozen import frozen_inputs
from qtool.torchgraph.nodes import HostValue, Operator, Value, as_tensor, chosen_outputs, refused
from qtool.torchgraph.operators import OPERATORS, SEVERAL_OUTPUTS
from qtool.torchgraph.shape_values import (
    INTEGER_INPUTS,
    SOURCES,
    host_constant,
    host_node,
    rank_of,
)

ABSENT = 0
"""The slot of an optional input that a node leaves out; it always holds None."""
ACTION = (
    "List the node, or the operator, under train_qat.frozen to leave it in float as it is, or "
    "rewrite that part of the model."
)

Values = list[Any]
"""What the slots hold: ``nodes.Value``."""


class Step(NamedTuple):
    """One call: ``function(*inputs)`` goes to ``outputs``; all are slot numbers."""

    name: str
    function: Operator
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def run(steps: Iterable[Step], values: Values) -> None:
    """Runs ``steps`` on the slots ``values``, in place.

    Raises:
        ModelError: a step cannot run on these values; it names the node.
    """
    for step in steps:
        try:
            result = step.function(*[values[slot] for slot in step.inputs])
        except (RuntimeError, IndexError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"node {step.name!r}",
                f"cannot run on these values ({reason})",
                "values of the types and shapes that the model declares",
                "Check the model's inputs: column count, dtype and category codes.",
            ) from error
        if len(step.outputs) == 1:
            values[step.outputs[0]] = result
        else:
            for slot, value in zip(step.outputs, result, strict=True):
                values[slot] = value


class StepBuilder:
    """Makes the steps of a graph, node after node.

    Args:
        slots: value name → slot.
        constants: what the slots hold before any call; None for what only a call knows. What is
            computed from constants only is put there.
        frozen: what runs the nodes that are computed outside of torch.
        device: where tensors are made.
    """

    def __init__(
        self,
        slots: Mapping[str, int],
        constants: Values,
        frozen: Mapping[ir.Node, Operator],
        device: Callable[[], torch.device],
    ) -> None:
        self.slots, self.constants, self.frozen, self.device = slots, constants, frozen, device
        self.ranks: dict[int, int] = {}  # of the slots that will hold host values

    def steps(self, graph: ir.Graph) -> list[Step]:
        """Returns the steps of ``graph``; what has constant inputs only is run now.

        Raises:
            ModelError: an operator, a domain or a used output that is not supported.
        """
        found = []
        for node in graph:
            step = self._step(node)
            if all(self.constants[slot] is not None for slot in step.inputs if slot != ABSENT):
                run([step], self.constants)
            else:
                found.append(step)
        return found

    def _step(self, node: ir.Node) -> Step:
        name = str(node.name)
        if node in self.frozen:
            inputs = tuple(self.slots[str(value.name)] for value in frozen_inputs(node))
            step = Step(name, self.frozen[node], inputs, self._outputs(node))
            return self._on_tensors(step, ())
        inputs = tuple(
            ABSENT if value is None else self.slots[str(value.name)] for value in node.inputs
        )
        return self._host_step(node, inputs) or self._tensor_step(node, inputs)

    def _outputs(self, node: ir.Node) -> tuple[int, ...]:
        return tuple(self.slots[str(value.name)] for value in node.outputs if value.name)

    def _host_step(self, node: ir.Node, inputs: tuple[int, ...]) -> Step | None:
        """Returns the step of a node whose inputs are host values, None when one is a tensor."""
        moving = [slot for slot in inputs if slot in self.ranks]
        constants = {
            slot: host_constant(self.constants[slot]) for slot in inputs if slot not in moving
        }
        if not moving or any(v is None and slot != ABSENT for slot, v in constants.items()):
            return None
        ranks = [
            self.ranks[slot] if slot in moving else rank_of(constants[slot]) for slot in inputs
        ]
        found = host_node(node, ranks)
        if found is None:
            return None
        (output,) = self._outputs(node)
        self.ranks[output] = found.rank
        function = _with_constants(found.function, inputs, constants)
        return Step(str(node.name), function, tuple(moving), (output,))

    def _tensor_step(self, node: ir.Node, inputs: tuple[int, ...]) -> Step:
        builder = OPERATORS.get(node.op_type)
        if builder is None or node.domain not in ("", "ai.onnx"):
            raise refused(node, "the operator cannot be trained", "an operator of qtool", ACTION)
        function = builder(node)
        used = [bool(v.name) and (v.is_graph_output() or bool(v.uses())) for v in node.outputs]
        if node.op_type in SEVERAL_OUTPUTS:
            function = chosen_outputs(node, function)
            outputs = self._outputs(node)
        elif any(used[1:]):
            raise refused(node, "a second output is used", "only the first output to be used")
        else:
            outputs = (self.slots[str(node.outputs[0].name)],)
        if node.op_type in SOURCES:
            self.ranks[outputs[0]] = SOURCES[node.op_type]
        step = Step(str(node.name), function, inputs, outputs)
        return self._on_tensors(step, INTEGER_INPUTS.get(node.op_type, ()))

    def _on_tensors(self, step: Step, integer_inputs: Collection[int]) -> Step:
        """Returns ``step`` with host values as tensors, but for ``integer_inputs``."""
        host = [slot in self.ranks or _is_host(self.constants[slot]) for slot in step.inputs]
        convert = [found and i not in integer_inputs for i, found in enumerate(host)]
        # A step without any tensor (Range) makes one, on whatever device.
        computed = [
            slot
            for slot, is_host in zip(step.inputs, host, strict=True)
            if not is_host and self.constants[slot] is None and slot != ABSENT
        ]
        if not any(convert) and (computed or not any(host)):
            return step

        def function(*values: Value) -> Any:
            tensors = [
                as_tensor(value, self.device()) if converted and value is not None else value
                for value, converted in zip(values, convert, strict=True)
            ]
            result = step.function(*tensors)
            if computed or not isinstance(result, Tensor):
                return result
            return result.to(self.device())

        return step._replace(function=function)


def _with_constants(
    function: Operator, slots: Sequence[int], constants: Mapping[int, HostValue | None]
) -> Operator:
    """Returns ``function`` of the inputs whose slots are not in ``constants``."""

    def call(*moving: HostValue) -> Any:
        values = iter(moving)
        return function(*[constants[s] if s in constants else next(values) for s in slots])

    return call


def _is_host(value: Value) -> bool:
    return isinstance(value, (int, tuple))
