"""What selling a large order costs, and the best way to do it: Almgren and Chriss with a signal.

An order is sold in ``STEPS`` days. Selling the share u of it in one step costs half the spread and
the temporary impact, per unit; the price falls by the permanent impact for what is left, which then
stands in the market for a step, with its risk and with the drift that the signal forecasts. All
amounts are shares of the order, all prices and costs basis points of the price at arrival.

Source: Almgren and Chriss 2000, "Optimal execution of portfolio transactions", Journal of Risk
3(2), equations 4 to 8, with their choice of parameters: one percent of the daily volume costs one
spread, ten percent move the price by one. The order is one day's volume, 5 % of that of its days.
The signal is a drift that returns to zero, as in Cartea and Jaimungal 2016, "Incorporating
order-flow into optimal execution", Mathematics and Financial Economics 10(3).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEPS = 20
TEMPORARY, PERMANENT = 100.0, 10.0
"""Impact of selling the whole order in one step, spreads."""
RISK_AVERSION = 1.5e-4
"""Basis points of cost for one of variance, a step: half of an order is sold in 5 to 10 days."""
MEMORY, STRENGTH = 0.8, 0.04
"""Share of the signal that is left a step later; its standard deviation, in volatilities."""
PACES = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
"""Actions: multiples of the pace that sells what is left evenly in the steps that are left."""
AMOUNTS = np.linspace(0, 1, 33)
"""Where the exact costs are computed; between them they are interpolated."""
SIGNALS = 15
"""Values of the signal likewise."""


def share_sold(action: int, steps_left: int) -> float:
    """Returns the share of what is left that an action sells; the last step sells all."""
    return 1.0 if steps_left == 1 else min(1.0, PACES[action] / steps_left)


def actions(steps_left: int) -> list[int]:
    """Returns the actions that sell different shares."""
    shares = [share_sold(action, steps_left) for action in range(len(PACES))]
    return [action for action, share in enumerate(shares) if share not in shares[:action]]


def step_cost(
    remaining: Floats | float,
    share: Floats | float,
    spread: Floats | float,
    volatility: Floats | float,
    drift: Floats | float,
    risk_aversion: float = RISK_AVERSION,
) -> Floats | float:
    """Returns what one step costs, basis points of the order; arguments are broadcast.

    Args:
        remaining: share of the order that is left before the step.
        share: of ``remaining`` that is sold.
        spread: basis points.
        volatility: basis points a step.
        drift: return until the next step, basis points, expected or real.
        risk_aversion: 0 for what is paid, without a price for risk.
    """
    sold = remaining * share
    left = remaining - sold
    impact = TEMPORARY * sold * sold + PERMANENT * sold * left
    risk = risk_aversion * volatility * volatility * left * left
    return spread * (0.5 * sold + impact) + risk - drift * left


class Solution:
    """Least expected costs of markets, by dynamic programming over ``PACES``.

    Costs are per unit of what is left: they are nearly linear in the amount, as the value of a
    linear-quadratic problem is, so that a coarse grid is exact enough. The signal is the Markov
    chain of Rouwenhorst 1995 (Kopecky and Suen 2010, Review of Economic Dynamics 13(3)).
    """

    def __init__(self, spread: Floats, volatility: Floats, strength: float = STRENGTH) -> None:
        """Solves for markets.

        Args:
            spread: basis points, (markets,).
            volatility: basis points a step, (markets,).
            strength: standard deviation of the signal, in volatilities.
        """
        self.spread, self.volatility = spread[:, None, None], volatility[:, None, None]
        self.deviation = strength * self.volatility
        grid, chain = rouwenhorst(SIGNALS, MEMORY)
        signals = grid * self.deviation
        amounts = AMOUNTS[None, :, None]
        self.grid = grid
        self.expected: list[Floats] = [np.zeros((len(spread), len(AMOUNTS), SIGNALS))]
        """Of steps left after the next: (markets, amounts, signals), before the signal moves."""
        for steps_left in range(1, STEPS):
            costs = [
                self._after(steps_left, amounts, share, signals, self._on_grid(steps_left, share))
                for share in (share_sold(action, steps_left) for action in actions(steps_left))
            ]
            self.expected.append(np.minimum.reduce(costs) @ chain.T)

    def costs(self, steps_left: int, remaining: Floats, signal: Floats) -> Floats:
        """Returns the cost of every action and the best from then on, (markets, actions).

        Args:
            steps_left: 1 to ``STEPS``.
            remaining: share of the order, (markets,).
            signal: basis points, (markets,).
        """
        x, s = remaining[:, None, None], signal[:, None, None]
        found = []
        for action in range(len(PACES)):
            share = share_sold(action, steps_left)
            after = self._between(steps_left, remaining * (1 - share), signal)
            found.append(self._after(steps_left, x, share, s, after[:, None, None])[:, 0, 0])
        return np.stack(found, axis=1)

    def _after(
        self, steps_left: int, x: Floats, share: float, signal: Floats, after: Floats
    ) -> Floats:
        """Returns the cost per unit left; ``after`` is that of a unit left after the step."""
        left = 1 - share
        impact = share * (TEMPORARY * share + PERMANENT * left) * x
        now = self.spread * (0.5 * share + impact) - signal * left
        cost: Floats = now + RISK_AVERSION * self.volatility**2 * left * left * x + left * after
        return cost

    def _on_grid(self, steps_left: int, share: float) -> Floats:
        below, part = _places(AMOUNTS * (1 - share), AMOUNTS)
        table, part = self.expected[steps_left - 1], part[None, :, None]
        return table[:, below] * (1 - part) + table[:, below + 1] * part

    def _between(self, steps_left: int, remaining: Floats, signal: Floats) -> Floats:
        table, rows = self.expected[steps_left - 1], np.arange(len(remaining))
        i, x = _places(remaining, AMOUNTS)
        j, s = _places(signal / self.deviation[:, 0, 0], self.grid)
        low = table[rows, i, j] * (1 - s) + table[rows, i, j + 1] * s
        high = table[rows, i + 1, j] * (1 - s) + table[rows, i + 1, j + 1] * s
        found: Floats = low * (1 - x) + high * x
        return found


def rouwenhorst(states: int, memory: float) -> tuple[Floats, Floats]:
    """Returns values of variance 1, (states,), and their transition probabilities."""
    p = (1 + memory) / 2
    chain = np.array([[p, 1 - p], [1 - p, p]])
    for size in range(3, states + 1):
        larger = np.zeros((size, size))
        larger[:-1, :-1] += p * chain
        larger[:-1, 1:] += (1 - p) * chain
        larger[1:, :-1] += (1 - p) * chain
        larger[1:, 1:] += p * chain
        larger[1:-1] /= 2
        chain = larger
    return np.linspace(-1, 1, states) * math.sqrt(states - 1), chain


def _places(values: Floats, grid: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Returns the point of an even grid below each value, and how far above it in steps."""
    position = (values - grid[0]) / (grid[1] - grid[0])
    below = position.astype(np.int64).clip(0, len(grid) - 2)
    return below, (position - below).clip(0, 1)


def almgren_chriss(steps_left: int, spread: float, volatility: float) -> Floats:
    """Returns the best schedule without a signal: what is left after each step, (steps_left,).

    Source: Almgren and Chriss 2000, equations 17 and 18, with τ = 1; amounts may be any.
    """
    temporary = spread * (TEMPORARY - PERMANENT / 2)
    kappa = math.acosh(1 + RISK_AVERSION * volatility**2 / temporary / 2)
    times = np.arange(steps_left - 1, -1, -1)
    left: Floats = np.sinh(kappa * times) / math.sinh(kappa * steps_left)
    return left
