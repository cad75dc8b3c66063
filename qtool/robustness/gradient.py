"""Attacks that follow the gradient of a loss, on rows that are judged and on those trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.data.signature import Arrays
from qtool.errors import ConfigError
from qtool.robustness.attack import Attack
from qtool.robustness.feasible import Region

Inputs = dict[str, Tensor]
Loss = Callable[[Inputs, Tensor | None], Tensor]
"""(inputs, labels) → mean loss, shape ()."""
LossOfOutputs = Callable[[Mapping[str, Tensor], Tensor | None, Mapping[str, Tensor]], Tensor]
"""(outputs, labels, inputs) → mean loss, shape ()."""
Forward = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
STEP = 2.5
"""Steps of PGD reach so many times the range, so that the edge is met from any point within.

Source: Madry et al. 2018, arXiv 1706.06083, section 5.
"""


@dataclass(frozen=True)
class Space:
    """Where one input may be moved to; tensors have its shape.

    Attributes:
        start: the input as it is.
        low: smallest values.
        high: largest values.
        settle: what the model is given for a point between them.
    """

    start: Tensor
    low: Tensor
    high: Tensor
    settle: Callable[[Tensor], Tensor] = lambda x: x

    @staticmethod
    def ball(x: Tensor, epsilon: float) -> Space:
        """Returns the points whose every value is at most ``epsilon`` away from that of ``x``."""
        return Space(x, x - epsilon, x + epsilon)

    @staticmethod
    def of(region: Region, device: torch.device) -> Space:
        """Returns the points of a region, in tensors on ``device``."""
        start, low, high = (
            torch.tensor(array, device=device) for array in (region.encoded, *region.bounds)
        )

        def settle(x: Tensor) -> Tensor:
            return torch.from_numpy(region.settle(x.cpu().numpy())).to(device)

        return Space(start, low, high, settle)


def moved(
    inputs: Inputs,
    labels: Tensor | None,
    losses: Sequence[Loss],
    spaces: Mapping[str, Space],
    steps: int,
) -> Inputs:
    """Returns ``inputs`` with some of them moved to where the loss is large.

    One step is FGSM, more are projected gradient ascent from the row itself. Gradients are taken at
    settled points, but steps add up unsettled: many small ones may make a whole number.

    Source: Goodfellow et al. 2015, arXiv 1412.6572, section 4; Madry et al. 2018, arXiv
    1706.06083, section 2.1, without a random start.

    Args:
        inputs: of the model; the attacked rows, each of which the loss judges by itself.
        labels: theirs.
        losses: what is made large; where its gradient is 0, that of the next one leads.
        spaces: where the inputs that are moved may go.
        steps: how many.

    Raises:
        ConfigError: the loss does not depend on an input that is to be moved.
    """
    share = 1.0 if steps == 1 else STEP / steps
    sizes = {
        name: share * torch.maximum(space.high - space.start, space.start - space.low)
        for name, space in spaces.items()
    }
    at = {name: space.start.detach() for name, space in spaces.items()}
    for _ in range(steps):
        settled = {name: space.settle(at[name]) for name, space in spaces.items()}
        signs = [_signs(inputs, labels, loss, settled) for loss in losses]
        for name, space in spaces.items():
            sign = signs[0][name]
            for other in signs[1:]:
                sign = torch.where(sign == 0, other[name], sign)
            step = at[name] + sizes[name] * sign
            at[name] = torch.minimum(torch.maximum(step, space.low), space.high)
    return {**inputs, **{name: space.settle(at[name]) for name, space in spaces.items()}}


def white_box(forward: Forward, loss: LossOfOutputs, spare: Forward | None = None) -> Attack:
    """Returns FGSM and PGD on a model, as a function of arrays.

    Args:
        forward: the model, inputs → outputs by name: a torch graph on the CPU.
        loss: of its outputs for the true labels.
        spare: for a fake-quant graph the FP32 graph, which leads where the first has no gradient:
            where a code is the first or the last of its range, as both values of a flag are. That
            hides the way from an attack and does not close it.

    Source: Athalye et al. 2018, "Obfuscated gradients give a false sense of security", arXiv
    1802.00420, section 4.1.
    """

    def loss_of(graph: Forward) -> Loss:
        return lambda inputs, labels: loss(graph(inputs), labels, inputs)

    losses = [loss_of(graph) for graph in (forward, spare) if graph is not None]

    def attack(
        inputs: Arrays, labels: NDArray[Any], regions: Mapping[str, Region], steps: int
    ) -> Arrays:
        tensors = {name: torch.tensor(array) for name, array in inputs.items()}
        spaces = {name: Space.of(region, torch.device("cpu")) for name, region in regions.items()}
        found = moved(tensors, torch.tensor(labels), losses, spaces, steps)
        return {name: tensor.numpy() for name, tensor in found.items()}

    return attack


def _signs(inputs: Inputs, labels: Tensor | None, loss: Loss, at: Inputs) -> Inputs:
    leaves = {name: x.detach().requires_grad_() for name, x in at.items()}
    value = loss({**inputs, **leaves}, labels)
    gradients = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    signs = {}
    for name, gradient in zip(leaves, gradients, strict=True):
        if gradient is None:
            found = f"the loss has no gradient with respect to {name!r}"
            raise ConfigError("gradient attack", found, "inputs that move it")
        signs[name] = gradient.sign()
    return signs
