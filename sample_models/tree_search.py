"""Optimal execution by Monte Carlo tree search: the network that tells the search where to look.

AlphaZero's network (Silver et al. 2017, arXiv 1712.01815) for selling a large order: a trunk of
residual layers, a policy over the paces of selling and the value of the state. Changes: the trunk
is dense, for a state is a dozen numbers and no board; a third head returns the cost of every pace,
so that a search knows something of those that it has not tried; and it learns from exact costs
instead of games against itself, as the problem of one order is small enough for dynamic programming
(``qtool/data/generators/execution.py``). ``sample_models/systems/tree_search.py`` is the search.

It returns ``costs`` (batch, paces), basis points of what is left of the order, then ``policy``
(batch, paces), logits, and ``value`` (batch, 1), the cost of the best pace. ``search_loss`` trains
them, a ``function`` of ``training.loss``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from qtool.data.generators.execution import PACES

COST_SCALE = 25.0
"""Basis points for which an output of 1 stands."""


class Residual(nn.Module):
    """Two dense layers and what came before them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (batch, width)."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class ExecutionNet(nn.Module):
    """A state of an order into costs, policy and value; see ``build``."""

    scale: Tensor

    def __init__(self, columns: int, width: int, blocks: int) -> None:
        super().__init__()
        paces = len(PACES)
        self.stem = nn.Linear(columns, width)
        self.blocks = nn.Sequential(*(Residual(width) for _ in range(blocks)))
        self.heads = nn.Linear(width, 2 * paces + 1)
        scale = [COST_SCALE] * paces + [1.0] * paces + [COST_SCALE]
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def forward(self, state: Tensor) -> dict[str, Tensor]:
        """Returns ``costs``, ``policy`` and ``value``.

        Args:
            state: float32 (batch, columns), ``parent_orders.features``.
        """
        paces = len(PACES)
        found = self.heads(self.blocks(torch.relu(self.stem(state)))) * self.scale
        costs, policy, value = found.split([paces, paces, 1], dim=1)
        return {"costs": costs, "policy": policy, "value": value}


def search_loss(
    outputs: dict[str, Tensor],
    labels: Tensor,
    inputs: dict[str, Tensor],
    temperature: float = 0.1,
    policy_weight: float = 1.0,
) -> Tensor:
    """Returns the loss of costs and value, Huber's, and that of the policy, cross-entropy.

    Paces that cost about the same are about as good: the policy's target is the softmax of what
    each costs more than the best.

    Source: Silver et al. 2017, arXiv 1712.01815, equation 1, with other targets.

    Args:
        outputs: of the network.
        labels: float32 (batch, paces), exact costs in basis points.
        inputs: not read.
        temperature: basis points that make a pace worse by a factor of e.
        policy_weight: of the cross-entropy.
    """
    costs, policy, value = (outputs[name] for name in ("costs", "policy", "value"))
    best = labels.min(1, keepdim=True).values
    target = torch.softmax((best - labels) / temperature, dim=1)
    of_policy = functional.cross_entropy(policy, target)
    of_costs = functional.huber_loss(costs / COST_SCALE, labels / COST_SCALE)
    of_value = functional.huber_loss(value / COST_SCALE, best / COST_SCALE)
    return policy_weight * of_policy + of_costs + of_value


def build(inputs: dict[str, dict[str, list[int]]], width: int = 256, blocks: int = 4) -> nn.Module:
    """Returns an untrained network.

    Args:
        inputs: filled in by qtool from the encoder; input ``state``.
        width: of the trunk.
        blocks: of two layers each.
    """
    return ExecutionNet(inputs["state"]["shape"][0], width, blocks)
