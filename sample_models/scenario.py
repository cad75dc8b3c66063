"""Scenario simulation: the implied volatility of an option under Heston's model, for risk engines.

Revaluing a book in thousands of scenarios takes millions of prices. A surrogate learns the pricing
function offline (Ferguson and Green 2018, arXiv 1809.02233; Horvath, Muguruza and Tomas 2021,
"Deep learning volatility", Quantitative Finance 21(1)); as in Liu, Oosterlee and Bohte 2019, arXiv
1901.08943, one row is one option with the parameters of its market, and four wide layers give its
implied volatility, from which Black's formula gives the price.

Two changes. The network sees the six numbers without unit on which the answer depends: time is
counted in maturities, strikes in standard deviations, the volatility of variance against the
expected variance; a drifting level of volatilities is so no new territory. And it learns what the
smile adds to the volatility of the expected variance, which is exact where the variance does not
move (the idea of Funahashi 2021, Quantitative Finance 21(4), "Artificial neural network for option
pricing with and without asymptotic correction"): rounding to codes then costs a share of the
smile, not of the level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REACH = 4.0
"""Standard deviations from the forward beyond which the smile is flat."""


class PricingSurrogate(nn.Module):
    """Options into implied volatilities; see ``build``."""

    def __init__(self, hidden: list[int]) -> None:
        super().__init__()
        widths = [6, *hidden]
        layers: list[nn.Module] = []
        for i in range(len(hidden)):
            layers += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.smile = nn.Linear(widths[-1], 1)

    def forward(self, option: Tensor) -> Tensor:
        """Returns implied volatilities in volatility points, float32 (batch, 1).

        Args:
            option: float32 (batch, 8): log(K / S), maturity in years, rate, v0, kappa, theta,
                sigma, rho; maturity, v0, kappa, theta and sigma above 0.
        """
        log_moneyness, maturity, rate, v0, kappa, theta, sigma, rho = torch.split(option, 1, dim=1)
        reverting = kappa * maturity
        now = (1 - torch.exp(-reverting)) / reverting
        variance = theta + (v0 - theta) * now
        level = torch.sqrt(variance)
        unit = level * torch.sqrt(maturity)
        strike = ((log_moneyness - rate * maturity) / unit).clamp(-REACH, REACH)
        # Each within about -1 to 1 on the domain, so that one scale can serve all.
        features = [
            strike / 2.5,
            (v0 - theta) / variance / 2,
            torch.log(reverting) / 2.5,
            torch.log(sigma * maturity / unit) / 2.5,
            rho,
            torch.log(unit) / 2 + 1,
        ]
        smile = self.smile(self.layers(torch.cat(features, dim=1)))
        volatility: Tensor = 100 * level * (1 + smile)
        return volatility


def build(hidden: list[int] | None = None) -> nn.Module:
    """Returns an untrained surrogate.

    Args:
        hidden: widths of the layers; left out: four of 512.
    """
    return PricingSurrogate(hidden or [512] * 4)
