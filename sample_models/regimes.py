"""Regimes of a market: a hidden Markov model whose emissions are a network, filtered in the graph.

An autoregressive hidden Markov model (Hamilton 1989, Econometrica 57(2); Rabiner 1989, Proceedings
of the IEEE 77(2), section IV.B): in each regime the features of a day are normal around a mean and
with deviations that a network says from the days before. The network is a causal convolutional one
(Bai, Kolter and Koltun 2018, arXiv 1803.01271), all days at once. The forward filter stays in
float, in logarithms: it multiplies K x K matrices in pairs, log2(days) times, as the recursion over
days is associative (Hassan, Särkkä and García-Fernández 2021, IEEE Transactions on Signal
Processing 69): six products for 64 days, of five nodes each, instead of 63.

It returns log p(regime of the last day, all days), (batch, regimes): softmax is the filtered
probability of the regimes, logsumexp the log likelihood of the window. ``regime_loss`` trains it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TAPS = 3


class RegimeNet(nn.Module):
    """Windows into filtered regimes; see ``build``."""

    def __init__(self, days: int, features: int, regimes: int, channels: int, layers: int) -> None:
        super().__init__()
        self.days, self.features, self.regimes = days, features, regimes
        self.stem = nn.Conv1d(features, channels, 2, padding=2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, TAPS, padding=(TAPS - 1) * 2**i, dilation=2**i)
            for i in range(layers)
        )
        self.head = nn.Conv1d(channels, 2 * regimes * features, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        # At first regimes differ by their deviations only, from calm to wild.
        spread = torch.linspace(-0.5, 0.7, regimes)[:, None].expand(regimes, features)
        bias = torch.stack([torch.zeros(regimes, features), spread])
        self.head.bias = nn.Parameter(bias.reshape(-1))
        self.transition = nn.Parameter(4.0 * torch.eye(regimes))
        self.start = nn.Parameter(torch.zeros(regimes))

    def forward(self, window: Tensor) -> Tensor:
        """Returns float32 (batch, regimes), see the module.

        Args:
            window: float32 (batch, days, features), the latest day last.
        """
        observed = window.transpose(1, 2)
        emission = self.log_density(observed, self.emissions(observed))
        return self.filtered(emission.transpose(1, 2))

    def emissions(self, observed: Tensor) -> Tensor:
        """Returns means and log deviations of each day given those before it.

        Args:
            observed: (batch, features, days).

        Returns:
            (batch, 2 * regimes * features, days).
        """
        # Of a day the two before it, never itself.
        x = self.stem(observed)[..., :-3]
        for index, convolution in enumerate(self.convolutions):
            cut = (TAPS - 1) * 2**index
            x = torch.relu(x + torch.relu(convolution(x)[..., :-cut]))
        found: Tensor = self.head(x)
        return found

    def log_density(self, observed: Tensor, emissions: Tensor) -> Tensor:
        """Returns the log density of each day in each regime, (batch, regimes, days)."""
        shape = (-1, self.regimes, self.features, self.days)
        mean, log_deviation = emissions.chunk(2, dim=1)
        deviation = log_deviation.reshape(shape)
        distance = (observed[:, None] - mean.reshape(shape)) * torch.exp(-deviation)
        usual = 0.5 * self.features * math.log(2 * math.pi)
        return -(0.5 * distance * distance + deviation).sum(2) - usual

    def filtered(self, emission: Tensor) -> Tensor:
        """Returns the log joint of the last regime and all days, (batch, regimes).

        Args:
            emission: log densities, (batch, days, regimes).
        """
        step = torch.log_softmax(self.transition, 1).expand(self.days - 1, -1, -1)
        start = torch.log_softmax(self.start, 0).expand(1, self.regimes, -1)
        # From the regime of a day to that of the next; the first day comes from anywhere.
        product = torch.cat([start, step]) + emission[:, :, None]
        while product.shape[1] > 1:
            earlier, later = product[:, 0::2], product[:, 1::2]
            product = torch.logsumexp(earlier[..., None] + later[:, :, None], dim=3)
        return product[:, 0, 0]


def regime_loss(
    outputs: dict[str, Tensor], labels: Tensor, inputs: dict[str, Tensor], likelihood: float = 0.2
) -> Tensor:
    """Returns the cross-entropy of the filtered regime, less a share of the log likelihood per day.

    Likelihood alone would find regimes, but not those of the labels.

    Args:
        outputs: log joint of regime and window, (batch, regimes).
        labels: the regime of the last day, int64 (batch,).
        inputs: ``window``, whose days count.
        likelihood: the share.
    """
    (joint,) = outputs.values()
    per_day = joint.logsumexp(1) / inputs["window"].shape[1]
    return functional.cross_entropy(joint, labels) - likelihood * per_day.mean()


def build(
    inputs: dict[str, dict[str, list[int]]],
    regimes: int = 3,
    channels: int = 128,
    layers: int = 3,
) -> nn.Module:
    """Returns an untrained model.

    Args:
        inputs: filled in by qtool from the encoder; input ``window``, its days a power of two.
        regimes: hidden states.
        channels: of the convolutions.
        layers: convolutions; a day sees the ``2**(layers + 1)`` days before it.
    """
    days, features = inputs["window"]["shape"]
    return RegimeNet(days, features, regimes, channels, layers)
