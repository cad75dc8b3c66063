"""The graph that is deployed as a trainable module: fake quantization at the plan's tensors.

Scales are ``initial * exp(t)``: a learned ``t`` starts at 0, which gives the initial scale to the
bit, a scale can never reach zero, and one optimizer step moves every scale by the same ratio, be it
of a flag or of an amount. The gradient with respect to the scale is LSQ's. Zero points stay as they
are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qtool.errors import ModelError, StaleArtifactError
from qtool.graph.parameters import fold, owner_of
from qtool.graph.plan import Plan
from qtool.numerics.affine import Array, QuantParams, QuantSpec, weight_qparams
from qtool.torchgraph.importer import TorchGraph, run
from qtool.torchgraph.planned_steps import planned_steps


class FakeQuantGraph(nn.Module):
    """``graph`` with the activations, weights and biases of ``plan`` fake-quantized.

    A planned value is replaced by its quantized and dequantized value for every node that reads
    codes (``graph.plan``); a graph output keeps the float value, as in the written model.

    Args:
        graph: the FP32 graph; its parameters are trained.
        plan: a plan of the same graph without dynamic or weight-only layers.
        activations: parameters of every planned activation.
        weights: parameters of every planned weight (of ``diag(scale) @ weight`` where it folds);
            min-max of the current weights when left out.
        learn_scales: scales are trained too; otherwise they stay as given.

    Raises:
        ModelError: the plan names a tensor that the graph does not have, or has such layers.
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
        other = [node for node in plan.nodes if node.treatment in ("dynamic", "weight_only")]
        if other:
            raise ModelError(
                f"fake-quant graph, node '{other[0].name}'",
                f"treatment {other[0].treatment}",
                "static, storage or float",
                "Give the layer a rule in quantization.layers.",
            )
        self.graph, self.plan = graph, plan
        if weights is None:
            weights = minmax_weights(graph.weights(), plan, activations)
        _check("activation", activations, plan.activations)
        _check("weight", weights, {name: weight.spec for name, weight in plan.weights.items()})
        self._params = {name: activations[name] for name in plan.calibrated} | {
            name: weights[name] for name in plan.weights
        }
        initial = np.array([s for p in self._params.values() for s in p.scale.flat], np.float32)
        self.register_buffer("initial_scales", torch.from_numpy(initial))
        self._sizes = [params.scale.size for params in self._params.values()]
        self.log_scale_factors = nn.Parameter(torch.zeros(initial.size), requires_grad=learn_scales)
        self._replaced, self._steps = planned_steps(graph, plan, self._params)

    def forward(
        self, inputs: Mapping[str, Tensor], capture: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Returns the graph outputs, and the values named in ``capture`` as they are read.

        Args:
            inputs: one tensor per graph input.
            capture: names of inner values to return too.
        """
        values = [*self.graph.start(inputs), *self._scales(), *[None] * len(self._replaced)]
        run(self._steps, values)
        return self.graph.collect(values, self._replaced, capture)

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
            centred = np.rint(captured[name].numpy() / params[name].scale)
            codes = centred + params[name].zero_point.astype(np.float32)
            found[name] = codes.astype(params[name].spec.dtype)
        return found

    def weights(self) -> dict[str, Array]:
        """Returns the current float value of every trainable initializer by name."""
        return self.graph.weights()

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
            name: QuantParams(params.spec, scales[name].numpy().copy(), params.zero_point)
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


def minmax_weights(
    constants: Mapping[str, Array], plan: Plan, activations: Mapping[str, QuantParams]
) -> dict[str, QuantParams]:
    """Returns min-max parameters of every planned weight, folded where the plan folds it."""
    return {
        name: weight_qparams(fold(constants[name], planned.folds, dict(activations)), planned.spec)
        for name, planned in plan.weights.items()
    }


def _check(what: str, given: Mapping[str, QuantParams], planned: Mapping[str, QuantSpec]) -> None:
    for name, spec in planned.items():
        found = given[name].spec if name in given else "no parameters"
        if found != spec:
            raise StaleArtifactError(
                f"{what} {name!r}", f"{found}", f"{spec}, as the plan says", "Calibrate again."
            )
