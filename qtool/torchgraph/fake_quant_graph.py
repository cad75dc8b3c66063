"""The graph that is deployed as a trainable module: fake quantization at the plan's tensors.

Scales are ``initial * exp(t)``: a learned ``t`` starts at 0, which gives the initial scale to the
bit, a scale can never reach zero, and one optimizer step moves every scale by the same ratio, be it
of a flag or of an amount. The gradient with respect to the scale is LSQ's. Zero points stay as they
are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtool.errors import ConfigError, StaleArtifactError
from qtool.graph.parameters import (
    Parameters,
    constants_of,
    fold,
    owner_of,
    planned_params,
    with_constants,
    within_narrow,
)
from qtool.graph.plan import Plan
from qtool.numerics.affine import Array, QuantParams, QuantSpec
from qtool.torchgraph.importer import TorchGraph
from qtool.torchgraph.planned_steps import PlannedSteps, Switches, planned_steps
from qtool.torchgraph.steps import run


class FakeQuantGraph(nn.Module):
    """``graph`` with the activations, weights and biases of ``plan`` fake-quantized.

    A planned value is replaced by its quantized and dequantized value for every node that reads
    codes (``graph.plan``); a graph output keeps the float value where the written model has one.

    Args:
        graph: the FP32 graph; its parameters are trained.
        plan: a plan of the same graph.
        activations: parameters of every planned activation.
        weights: parameters of every planned weight (of ``diag(scale) @ weight`` where it folds);
            from the current weights when left out.
        learn_scales: scales are trained too; otherwise they stay as given.

    Raises:
        ConfigError: the plan quantizes a node that the graph computes outside of torch.
        ModelError: the plan names a tensor that the graph does not have.
        StaleArtifactError: parameters are missing or have another spec than the plan.
    """

    initial_scales: Tensor

    def __init__(
        self,
        graph: TorchGraph,
        plan: Plan,
        activations: Mapping[str, QuantParams],
        weights: Mapping[str, QuantParams] | None = None,
        learn_scales: bool = True,
    ) -> None:
        super().__init__()
        _check_frozen(graph, plan)
        self.graph, self.plan = graph, plan
        if weights is None:
            weights = initial_weights(graph.weights(), plan, activations)
        _check("activation", activations, plan.activations)
        _check("weight", weights, {name: weight.spec for name, weight in plan.weights.items()})
        self._params = {name: activations[name] for name in plan.calibrated} | {
            name: weights[name] for name in plan.weights
        }
        initial = np.array([s for p in self._params.values() for s in p.scale.flat], np.float32)
        self.register_buffer("initial_scales", torch.from_numpy(initial))
        self._sizes = [params.scale.size for params in self._params.values()]
        self.log_scale_factors = nn.Parameter(torch.zeros(initial.size), requires_grad=learn_scales)
        self._made: dict[Switches, PlannedSteps] = {}
        self.quantize(weights=True, activations=True)

    def forward(
        self, inputs: Mapping[str, Tensor], capture: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Returns the graph outputs, and the values named in ``capture`` as they are read.

        Args:
            inputs: one tensor per graph input.
            capture: names of inner values to return too.
        """
        values = [*self.graph.start(inputs), *self._scales()]
        values += [None] * (self._planned.slots - len(values))
        run(self._planned.steps, values)
        for slot, quantized in self._planned.only_codes.items():
            values[slot] = values[quantized]
        return self.graph.collect(values, self._planned.replaced, capture)

    def quantize(self, *, weights: bool, activations: bool) -> None:
        """Chooses what is fake-quantized from now on; a new graph and the INT8 model do both.

        Args:
            weights: constants; their int32 biases too when activations are.
            activations: planned ones, and those that dynamic and weight-only kernels quantize.
        """
        switches = Switches(weights, activations)
        # Made once: training switches at every step, and torch.compile knows steps by identity.
        if switches not in self._made:
            made = planned_steps(self.graph, self.plan, self._params, switches)
            self._made[switches] = made
        self._planned = self._made[switches]

    def freeze_scales(self) -> None:
        """Stops the training of scales: they stay as they are now."""
        self.log_scale_factors.requires_grad_(False)

    def codes(
        self, inputs: Mapping[str, Tensor], names: Sequence[str]
    ) -> dict[str, NDArray[np.integer]]:
        """Returns the codes of planned activations, in the dtype of their spec, by name."""
        with torch.no_grad():
            captured = self(inputs, capture=names)
        params = self.activation_qparams()
        found = {}
        for name in names:
            # The values lie on the grid, so that dividing by the scale meets each code within float
            # rounding.
            centred = np.rint(captured[name].cpu().numpy() / params[name].scale)
            codes = centred + params[name].zero_point.astype(np.float32)
            found[name] = codes.astype(params[name].spec.dtype)
        return found

    def weights(self) -> dict[str, Array]:
        """Returns the current float value of every trainable initializer by name, as to write it.

        What lies outside of the codes of narrow channels is cut; the writer knows the spec only.
        """
        weights, activations = self.graph.weights(), self.activation_qparams()
        cut = {
            name: within_narrow(weights[name], self.plan.weights[name], params, activations)
            for name, params in self.weight_qparams().items()
            if name in weights
        }
        return weights | cut

    def written_back(self, model: ir.Model) -> tuple[ir.Model, Parameters]:
        """Returns ``model`` with the weights as they are now, and the numbers to write it with."""
        trained = with_constants(model, self.weights())
        numbers = Parameters(
            constants_of(trained), self.activation_qparams(), self.weight_qparams()
        )
        return trained, numbers

    def activation_qparams(self) -> dict[str, QuantParams]:
        """Returns the current parameters of every planned activation."""
        own = self._current(self.plan.calibrated)
        return {name: own[owner_of(self.plan, name)] for name in self.plan.activations}

    def weight_qparams(self) -> dict[str, QuantParams]:
        """Returns the current parameters of every planned weight."""
        return self._current(self.plan.weights)

    def _current(self, names: Collection[str]) -> dict[str, QuantParams]:
        with torch.no_grad():
            scales = dict(zip(self._params, self._scales(), strict=True))
        return {
            name: QuantParams(params.spec, scales[name].cpu().numpy().copy(), params.zero_point)
            for name, params in self._params.items()
            if name in names
        }

    def _scales(self) -> list[Tensor]:
        scales = self.initial_scales * self.log_scale_factors.exp()
        parts = torch.split(scales, self._sizes)
        return [
            part.reshape(params.scale.shape)
            for part, params in zip(parts, self._params.values(), strict=True)
        ]


def initial_weights(
    constants: Mapping[str, Array], plan: Plan, activations: Mapping[str, QuantParams]
) -> dict[str, QuantParams]:
    """Returns parameters of every planned weight from its values, folded where the plan folds."""
    return {
        name: planned_params(fold(constants[name], planned.folds, dict(activations)), planned)
        for name, planned in plan.weights.items()
    }


def _check_frozen(graph: TorchGraph, plan: Plan) -> None:
    for node in plan.nodes:
        if node.name in graph.frozen and node.treatment not in ("float", "unchanged"):
            raise ConfigError(
                "train_qat.frozen",
                f"node '{node.name}' ({node.op_type}), which is quantized ({node.treatment})",
                "nodes that stay in float",
                f"Name fewer nodes, or give this one, planned as {node.treatment}, the method "
                "float in quantization.layers.",
            )


def _check(what: str, given: Mapping[str, QuantParams], planned: Mapping[str, QuantSpec]) -> None:
    for name, spec in planned.items():
        found = given[name].spec if name in given else "no parameters"
        if found != spec:
            raise StaleArtifactError(
                f"{what} {name!r}", f"{found}", f"{spec}, as the plan says", "Calibrate again."
            )
