"""The exponential moving average of weights, which is often better than the last ones.

Source: Polyak and Juditsky 1992; as here in Tarvainen and Valpola 2017, arXiv 1703.01780.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """The average of the trained parameters of ``module``.

    Args:
        module: its parameters are read, and replaced for a while by ``applied``.
        decay: of the average; smaller in the first steps, (1 + step) / (10 + step), so that they
            do not weigh more than they should.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._decay, self._steps = decay, 0
        self._values = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the current parameters."""
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        torch._foreach_lerp_(self._values, [p.detach() for p in self._parameters], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged parameters while the body works."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, int | list[Tensor]]:
        """Returns what ``restore`` needs."""
        return {"steps": self._steps, "values": self._values}

    def restore(self, state: dict[str, int | list[Tensor]]) -> None:
        """Goes on from a saved state."""
        steps, values = state["steps"], state["values"]
        assert isinstance(steps, int)
        assert isinstance(values, list)
        self._steps = steps
        for own, saved in zip(self._values, values, strict=True):
            own.copy_(saved)

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, value in zip(self._parameters, self._values, strict=True):
            current = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(current)
