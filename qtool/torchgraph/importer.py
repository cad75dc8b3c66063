"""An ONNX graph as a torch module: the same numbers, differentiable, its constants trainable.

The graph becomes a list of steps over numbered slots when the module is built; a call runs the list
and nothing else. Shape arithmetic is ordinary steps on int64 tensors, so any batch size runs.
Everything lives on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qtool.errors import ModelError
from qtool.graph.model_file import OPSETS, constant
from qtool.numerics.affine import Array
from qtool.torchgraph.nodes import Operator, refused
from qtool.torchgraph.operators import OPERATORS, TRAINABLE_INPUTS

ABSENT = 0
"""The slot of an optional input that a node leaves out; it always holds None."""

Values = list[Tensor | None]


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
        steps: what a call runs, in order.
        input_names: graph inputs that a call must be given.
        output_names: graph outputs.
        parameter_names: initializer name → attribute that holds it as an ``nn.Parameter``.

    Args:
        model: a prepared graph: named nodes and values, constants as initializers.
        trainable: False freezes the parameters (a teacher).

    Raises:
        ModelError: an operator, a domain, an opset or a used output that is not supported.
    """

    def __init__(self, model: ir.Model, trainable: bool = True) -> None:
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
        self.steps = [_step(node, self.slots) for node in graph]
        self.parameter_names: dict[str, str] = {}
        self._template: Values = [None] * (len(self.slots) + 1)
        trained = trainable_initializers(graph)
        for name, array in constants.items():
            tensor = torch.from_numpy(np.array(array))
            if name in trained:
                # Attribute names may not contain dots; the index keeps them apart.
                attribute = f"w{len(self.parameter_names)}_{re.sub(r'[^0-9A-Za-z]', '_', name)}"
                self.parameter_names[name] = attribute
                self.register_parameter(attribute, nn.Parameter(tensor, requires_grad=trainable))
            else:
                self._template[self.slots[name]] = tensor

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
        return {name: tensor for name, tensor in found.items() if tensor is not None}

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
            name: getattr(self, attribute).detach().numpy().copy()
            for name, attribute in self.parameter_names.items()
        }


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
        if type(result) is tuple:
            for slot, tensor in zip(step.outputs, result, strict=True):
                values[slot] = tensor
        else:
            values[step.outputs[0]] = result


def trainable_initializers(graph: ir.Graph) -> set[str]:
    """Returns the names of the float32 initializers that hold weights, biases and tables."""
    found: set[str] = set()
    for node in graph:
        positions = TRAINABLE_INPUTS.get(node.op_type, ())
        if node.op_type == "Add" and any(_made_by_matmul(value) for value in node.inputs):
            positions = (0, 1)
        for position in positions:
            value = node.inputs[position] if position < len(node.inputs) else None
            array = constant(value)
            if value is not None and array is not None and array.dtype == np.float32:
                found.add(str(value.name))
    return found


def _made_by_matmul(value: ir.Value | None) -> bool:
    producer = None if value is None else value.producer()
    return producer is not None and producer.op_type == "MatMul"


def _step(node: ir.Node, slots: dict[str, int]) -> Step:
    builder = OPERATORS.get(node.op_type)
    if builder is None or node.domain not in ("", "ai.onnx"):
        action = "Rewrite that part of the model, or quantize without training."
        raise refused(node, "the operator cannot be trained", "an operator of qtool", action)
    outputs = [value for value in node.outputs if value.name]
    if node.op_type != "Split" and any(v.uses() or v.is_graph_output() for v in outputs[1:]):
        raise refused(node, "a second output is used", "only the first output to be used")
    kept = outputs if node.op_type == "Split" else outputs[:1]
    return Step(
        str(node.name),
        builder(node),
        tuple(ABSENT if value is None else slots[str(value.name)] for value in node.inputs),
        tuple(slots[str(value.name)] for value in kept),
    )
