"""A structural equation model of an economy, with a small network in every equation.

Of each variable the model says what its causes make of it. As in NOTEARS-MLP (Zheng et
al. 2020, "Learning sparse nonparametric DAGs", AISTATS, equation 9) an equation is a network that
reads its causes alone; unlike there, the graph of causes is known (``macro_quarters.EQUATIONS``),
as it is in a structural equation model that is to be tested, and beside the network stands the
linear part of such a model (Bollen 1989, "Structural Equations with Latent Variables", chapter 4),
so that without the networks, which start at 0, the coefficients are those of semopy or lavaan. All
equations are computed at once, by dense layers whose weights are masked (Germain et al. 2015, MADE,
arXiv 1502.03509, equation 8).

It returns what every variable is expected to be, given the values that its causes have in the row.
An intervention on a variable is simulated in the order of the causes, which have been replaced by
what the model has returned: ``systems/structural.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qtool.data.generators.macro_quarters import LAGS, VARIABLES, read_by


class MaskedLinear(nn.Linear):
    """A dense layer that has weights only where a mask of 0 and 1, (outputs, inputs), has 1.

    The others start at 0 and get no gradient, so that the graph is that of any dense layer.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)
        bound = 1 / mask.sum(1, keepdim=True).sqrt()
        with torch.no_grad():
            self.weight.copy_((2 * torch.rand(mask.shape) - 1) * bound * mask)
            self.bias.zero_()
        self.weight.register_hook(lambda g: g * self.mask)  # type: ignore[no-untyped-call]


class StructuralNet(nn.Module):
    """All equations; see ``build``."""

    def __init__(self, reads: Tensor, hidden: int) -> None:
        super().__init__()
        equations = len(reads)
        own = torch.eye(equations)
        self.linear = MaskedLinear(reads)
        self.first = MaskedLinear(reads.repeat_interleave(hidden, 0))
        self.second = MaskedLinear(own.repeat_interleave(hidden, 0).repeat_interleave(hidden, 1))
        self.third = MaskedLinear(own.repeat_interleave(hidden, 1))
        self.dropout = nn.Dropout(0.5)  # an economy has few quarters
        for layer in (self.linear, self.third):
            nn.init.zeros_(layer.weight)

    def forward(self, causes: Tensor, lags: Tensor) -> Tensor:
        """Returns the expected values, float32 (batch, variables).

        Args:
            causes: float32 (batch, variables), all values of this quarter; the masks choose.
            lags: float32 (batch, LAGS * variables), of the quarters before.
        """
        x = torch.cat([causes, lags], dim=1)
        bent = self.dropout(torch.relu(self.first(x)))
        bent = self.dropout(torch.relu(self.second(bent)))
        expected: Tensor = self.linear(x) + self.third(bent)
        return expected


def build(hidden: int = 64) -> nn.Module:
    """Returns an untrained model.

    Args:
        hidden: neurons of each of the two layers that an equation has of its own.
    """
    reads = torch.zeros(len(VARIABLES), (1 + LAGS) * len(VARIABLES))
    for row, variable in enumerate(VARIABLES):
        reads[row, read_by(variable)] = 1
    return StructuralNet(reads, hidden)
