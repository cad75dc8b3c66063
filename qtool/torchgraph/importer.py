"""An ONNX graph as a torch module: the same numbers, differentiable, its constants trainable.

The graph becomes a list of steps over numbered slots when the module is built; a call runs the list
and nothing else. What depends on constants only is computed once, what depends on shapes only stays
outside of torch (``shape_values``), so any batch size runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from qtool.errors import ModelError
from qtool.graph.model_file import OPSETS, constant
from qtool.numerics.affine import Array
from qtool.torchgraph.frozen import Frozen, frozen_nodes, read_by
from qtool.torchgraph.nodes import as_tensor
from qtool.torchgraph.steps import ABSENT, StepBuilder, Values, run
from qtool.torchgraph.trainable import trainable_initializers


class TorchGraph(nn.Module):
    """The graph of ``model`` as a torch module.

    Attributes:
        slots: value name → slot.
        steps: what a call runs, in order; what has constant inputs only has been run already.
        nodes: node name → node.
        input_names: graph inputs that a call must be given.
        output_names: graph outputs.
        frozen: names of the nodes that are computed outside of torch.
        parameter_names: initializer name → attribute that holds it as an ``nn.Parameter``.
            Initializers that are equal, number for number, are one layer's weight that is used in
            several places, and stay one parameter; not so constants of one number (fresh biases).

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
        self.frozen = {str(node.name) for node in operators}
        trained = trainable_initializers(graph, fixed)
        tied: dict[object, str] = {}
        for name, array in constants.items():
            tensor = torch.from_numpy(np.array(array))
            if name not in trained:
                self._template[self.slots[name]] = tensor
                continue
            # Attribute names may not contain dots; the index keeps them apart.
            own = f"w{len(self.parameter_names)}_{re.sub(r'[^0-9A-Za-z]', '_', name)}"
            self.parameter_names[name] = attribute = tied.setdefault(_identity(name, tensor), own)
            if attribute == own:
                self.register_parameter(own, nn.Parameter(tensor, requires_grad=trainable))
        self.nodes = {str(node.name): node for node in graph}
        self.device = torch.device("cpu")
        builder = StepBuilder(self.slots, self._template, operators, lambda: self.device)
        self.steps = builder.steps(graph)

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
            if found[name] is None:
                expected = "a value that a kernel leaves"
                raise ModelError(f"value {name!r}", "part of the kernel that reads it", expected)
        return {name: as_tensor(value, self.device) for name, value in found.items()}

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


def _identity(name: str, tensor: Tensor) -> object:
    """Returns what only tied initializers have in common."""
    if tensor.numel() == 0 or (tensor == tensor.reshape(-1)[0]).all():
        return name
    return tensor.shape, hashlib.sha256(tensor.numpy().tobytes()).digest()
