"""An ONNX graph as a torch module: the same numbers, differentiable, its constants trainable.

The graph becomes a list of steps over numbered slots when the module is built; a call runs the list
and nothing else. What depends on constants only is computed once, what depends on shapes only stays
outside of torch (``shape_values``), so any batch size runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qtool.errors import ModelError
from qtool.graph.model_file import OPSETS, constant
from qtool.numerics.affine import Array
from qtool.torchgraph.frozen import Frozen, frozen_inputs, frozen_nodes, read_by
from qtool.torchgraph.nodes import HostValue, Operator, Value, as_tensor, chosen_outputs, refused
from qtool.torchgraph.operators import OPERATORS, SEVERAL_OUTPUTS
from qtool.torchgraph.shape_values import (
    INTEGER_INPUTS,
    SOURCES,
    host_constant,
    host_node,
    rank_of,
)
from qtool.torchgraph.trainable import trainable_initializers

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


class TorchGraph(nn.Module):
    """The graph of ``model`` as a torch module.

    Attributes:
        slots: value name → slot.
        steps: what a call runs, in order; what has constant inputs only has been run already.
        nodes: node name → node.
        input_names: graph inputs that a call must be given.
        output_names: graph outputs.
        parameter_names: initializer name → attribute that holds it as an ``nn.Parameter``.

    Args:
        model: a prepared graph: named nodes and values, constants as initializers.
        trainable: False freezes the parameters (a teacher).
        frozen: nodes that are computed outside of torch, without gradients; their constants are no
            parameters.

    Raises:
        ConfigError: a pattern of ``frozen`` matches no node.
        ModelError: an operator, a domain, an opset or a used output that is not supported.
    """

    def __init__(
        self, model: ir.Model, trainable: bool = True, frozen: Frozen | None = None
    ) -> None:
        super().__init__()
        opset = model.opset_imports.get("", 0)
        if opset not in OPSETS:
            expected = f"{OPSETS.start} to {OPSETS.stop - 1}"
            raise ModelError("torch graph", f"ai.onnx opset {opset}", expected)
        graph = model.graph
        constants = {name: constant(value) for name, value in graph.initializers.items()}
        self.input_names = [str(v.name) for v in graph.inputs if v.name not in constants]
        self.output_names = [str(v.name) for v in graph.outputs]
        produced = [str(v.name) for node in graph for v in node.outputs if v.name]
        names = [*self.input_names, *constants, *produced]
        self.slots = {name: slot for slot, name in enumerate(names, start=ABSENT + 1)}
        self.parameter_names: dict[str, str] = {}
        self._template: Values = [None] * (len(self.slots) + 1)
        operators = {} if frozen is None else frozen_nodes(model, frozen)
        fixed = {value for node in operators for value in read_by(node)}
        trained = trainable_initializers(graph, fixed)
        for name, array in constants.items():
            tensor = torch.from_numpy(np.array(array))
            if name in trained:
                # Attribute names may not contain dots; the index keeps them apart.
                attribute = f"w{len(self.parameter_names)}_{re.sub(r'[^0-9A-Za-z]', '_', name)}"
                self.parameter_names[name] = attribute
                self.register_parameter(attribute, nn.Parameter(tensor, requires_grad=trainable))
            else:
                self._template[self.slots[name]] = tensor
        self.nodes = {str(node.name): node for node in graph}
        self.device = torch.device("cpu")
        self._ranks: dict[int, int] = {}  # of the slots that hold host values
        self.steps: list[Step] = []
        for node in graph:
            self._add(node, operators)

    def forward(
        self, inputs: Mapping[str, Tensor], capture: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Returns the graph outputs, and the values named in ``capture``, by name.

        Args:
            inputs: one tensor per graph input, of the graph's dtype.
            capture: names of inner values to return too.

        Raises:
            ModelError: an input is missing, or a node cannot run on these values.
        """
        values = self.start(inputs)
        run(self.steps, values)
        return self.collect(values, {}, capture)

    def start(self, inputs: Mapping[str, Tensor]) -> Values:
        """Returns the slots before the first step: inputs, constants and parameters."""
        values = self._template.copy()
        for name in self.input_names:
            if name not in inputs:
                given = ", ".join(inputs) or "nothing"
                raise ModelError(f"model input {name!r}", f"not given (given: {given})", "a tensor")
            values[self.slots[name]] = inputs[name]
        for name, attribute in self.parameter_names.items():
            values[self.slots[name]] = getattr(self, attribute)
        return values

    def collect(
        self, values: Values, replaced: Mapping[int, int], capture: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Returns the outputs and the captured values after the last step.

        ``replaced`` leads from the slot of a captured value to the one its consumers read.
        """
        found = {name: values[self.slots[name]] for name in self.output_names}
        for name in capture:
            slot = self.slot(name)
            found[name] = values[replaced.get(slot, slot)]
        return {
            name: as_tensor(value, self.device)
            for name, value in found.items()
            if value is not None
        }

    def slot(self, name: str) -> int:
        """Returns the slot of a value.

        Raises:
            ModelError: the graph has no such value.
        """
        if name not in self.slots:
            raise ModelError("torch graph", f"no value named {name!r}", "a value of this graph")
        return self.slots[name]

    def weights(self) -> dict[str, Array]:
        """Returns the current float32 value of every trainable initializer by name."""
        return {
            name: getattr(self, attribute).detach().cpu().numpy().copy()
            for name, attribute in self.parameter_names.items()
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TorchGraph:
        """Moves the constants where ``to`` moves the parameters."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._template = [fn(v) if isinstance(v, Tensor) else v for v in self._template]
        self.device = fn(torch.empty(0)).device
        return self

    def _add(self, node: ir.Node, frozen: Mapping[ir.Node, Operator]) -> None:
        """Makes the step of ``node``, or runs it when all that it reads is constant."""
        inputs = tuple(
            ABSENT if value is None else self.slots[str(value.name)] for value in node.inputs
        )
        if node in frozen:
            inputs = tuple(self.slots[str(value.name)] for value in frozen_inputs(node))
            step = Step(str(node.name), frozen[node], inputs, self._outputs(node))
            step = self._on_tensors(step, ())
        else:
            step = self._host_step(node, inputs) or self._tensor_step(node, inputs)
        if all(self._template[slot] is not None for slot in inputs if slot != ABSENT):
            run([step], self._template)
        else:
            self.steps.append(step)

    def _outputs(self, node: ir.Node) -> tuple[int, ...]:
        return tuple(self.slots[str(value.name)] for value in node.outputs if value.name)

    def _host_step(self, node: ir.Node, inputs: tuple[int, ...]) -> Step | None:
        """Returns the step of a node whose inputs are host values, None when one is a tensor."""
        moving = [slot for slot in inputs if slot in self._ranks]
        constants = {
            slot: host_constant(self._template[slot]) for slot in inputs if slot not in moving
        }
        if not moving or any(v is None and slot != ABSENT for slot, v in constants.items()):
            return None
        ranks = [
            self._ranks[slot] if slot in moving else rank_of(constants[slot]) for slot in inputs
        ]
        found = host_node(node, ranks)
        if found is None:
            return None
        (output,) = self._outputs(node)
        self._ranks[output] = found.rank
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
            self._ranks[outputs[0]] = SOURCES[node.op_type]
        step = Step(str(node.name), function, inputs, outputs)
        return self._on_tensors(step, INTEGER_INPUTS.get(node.op_type, ()))

    def _on_tensors(self, step: Step, integer_inputs: Collection[int]) -> Step:
        """Returns ``step`` with host values as tensors, but for ``integer_inputs``."""
        host = [slot in self._ranks or _is_host(self._template[slot]) for slot in step.inputs]
        convert = [found and i not in integer_inputs for i, found in enumerate(host)]
        # A step without any tensor (Range) makes one, on whatever device.
        computed = [
            slot
            for slot, is_host in zip(step.inputs, host, strict=True)
            if not is_host and self._template[slot] is None and slot != ABSENT
        ]
        if not any(convert) and (computed or not any(host)):
            return step

        def function(*values: Value) -> Any:
            tensors = [
                as_tensor(value, self.device) if converted and value is not None else value
                for value, converted in zip(values, convert, strict=True)
            ]
            result = step.function(*tensors)
            return result if computed else result.to(self.device)

        return step._replace(function=function)


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
