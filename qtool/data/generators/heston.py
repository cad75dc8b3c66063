"""European options under Heston's model: characteristic function, COS prices, implied volatility.

Under the risk-neutral measure

    dS = r S dt + sqrt(v) S dW1,  dv = kappa (theta - v) dt + sigma sqrt(v) dW2,  dW1 dW2 = rho dt

(Heston 1993, Review of Financial Studies 6(2)), without dividends. Every row is a market of its
own, with one maturity and a smile of strikes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

TERMS = 160
"""Of the cosine series."""
WIDTH = 16.0
"""Half of the interval of the series, in standard deviations of the log price."""
LARGEST_TOTAL = 6.0
"""Largest ``implied volatility * sqrt(maturity)`` that is looked for."""
STEPS = 60
"""Of the search for it; bisection alone would leave an error of 1e-17."""

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Market:
    """States of the market and parameters of its variance, one of each per row, float64 (rows,).

    Attributes:
        v0: variance now, per year.
        kappa: speed at which the variance reverts, per year.
        theta: variance in the long run, per year.
        sigma: volatility of the variance.
        rho: correlation of spot and variance.
    """

    v0: Floats
    kappa: Floats
    theta: Floats
    sigma: Floats
    rho: Floats

    def take(self, index: NDArray[np.bool_]) -> Market:
        """Returns the rows that a mask selects."""
        return Market(
            self.v0[index], self.kappa[index], self.theta[index], self.sigma[index], self.rho[index]
        )

    def mean_variance(self, maturity: Floats) -> Floats:
        """Returns the expected average of the variance until ``maturity`` (years), (rows,)."""
        reverted = -np.expm1(-self.kappa * maturity) / (self.kappa * maturity)
        found: Floats = self.theta + (self.v0 - self.theta) * reverted
        return found


def characteristic_function(market: Market, maturity: Floats, u: Floats) -> Complex:
    """Returns E[exp(i u log(S_T / F_T))] with the forward F_T, complex128 (rows, points).

    Source: Albrecher, Mayer, Schoutens and Tistaert 2007, "The little Heston trap", Wilmott
    Magazine, the formulation 2 that stays on the principal branch of the logarithm.

    Args:
        market: of each row.
        maturity: years, (rows,).
        u: (rows, points) or (rows, 1).
    """
    v0, kappa, theta, sigma, rho, t = (
        values[:, None]
        for values in (
            market.v0, market.kappa, market.theta, market.sigma, market.rho, maturity
        )
    )  # fmt: skip
    b = kappa - 1j * rho * sigma * u
    d = np.sqrt(b * b + sigma**2 * (1j * u + u * u))
    g = (b - d) / (b + d)
    decay = np.exp(-d * t)
    reversion = (b - d) * t - 2 * np.log((1 - g * decay) / (1 - g))
    variance = (b - d) * (1 - decay) / (1 - g * decay)
    found: Complex = np.exp((kappa * theta * reversion + v0 * variance) / sigma**2)
    return found


def put_prices(market: Market, maturity: Floats, log_strike: Floats) -> Floats:
    """Returns prices of puts over the forward, undiscounted, (rows, strikes).

    They are also the prices today on a spot of 1: discounting undoes the growth of the forward.

    Source: Fang and Oosterlee 2008, "A novel pricing method for European options based on
    Fourier-cosine series expansions", SIAM Journal on Scientific Computing 31(2), equations 19 and
    24, on the width of their equation 49 without the fourth cumulant.

    Args:
        market: of each row.
        maturity: years, (rows,).
        log_strike: log(K / F), (rows, strikes).
    """
    half = WIDTH * np.sqrt(_variance_of_log(market, maturity))[:, None]
    # log(S_T / F) is expanded on [a, a + 2 half]; its mean is half of the variance below 0.
    a = -0.5 * (market.mean_variance(maturity) * maturity)[:, None] - half
    u = np.arange(TERMS) * np.pi / (2 * half)
    weights = (characteristic_function(market, maturity, u) * np.exp(-1j * u * a)).real
    weights[:, 0] *= 0.5
    strike = np.clip(log_strike, a, a + 2 * half)
    # The payoff K - exp(y) counts from a to the strike.
    angle = u[:, None, :] * (strike - a)[:, :, None]
    u = u[:, None, 1:]
    exp_a, exp_strike = np.exp(a)[:, :, None], np.exp(strike)[:, :, None]
    sine = np.sin(angle[..., 1:])
    chi = ((np.cos(angle[..., 1:]) + u * sine) * exp_strike - exp_a) / (1 + u * u)
    first = exp_strike[..., 0] * (strike - a) - (exp_strike - exp_a)[..., 0]
    rest = ((exp_strike * sine / u - chi) * weights[:, None, 1:]).sum(axis=2)
    prices: Floats = np.maximum((weights[:, :1] * first + rest) / half, 0.0)
    return prices


def _variance_of_log(market: Market, maturity: Floats) -> Floats:
    """Returns the variance of log(S_T), (rows,).

    It is the curvature of the characteristic function's logarithm at 0. The closed form in table 11
    of Fang and Oosterlee is negative for some markets far from their mean.
    """
    near = 0.02 / np.sqrt(market.mean_variance(maturity) * maturity)
    height = np.abs(characteristic_function(market, maturity, near[:, None])[:, 0])
    found: Floats = -2 * np.log(height) / near**2
    return found


def black_price(total: Floats, log_strike: Floats, call: NDArray[np.bool_]) -> Floats:
    """Returns undiscounted prices over the forward.

    Source: Black 1976, "The pricing of commodity contracts", Journal of Financial Economics 3.

    Args:
        total: implied volatility times the root of the maturity, positive.
        log_strike: log(K / F).
        call: else a put.
    """
    sign = np.where(call, 1.0, -1.0)
    d1 = -log_strike / total + 0.5 * total
    first, second = ndtr(sign * d1), ndtr(sign * (d1 - total))
    price: Floats = sign * (first - np.exp(log_strike) * second)
    return price


def implied_volatility(price: Floats, log_strike: Floats, maturity: Floats) -> Floats:
    """Returns the volatility with which Black's formula gives a price, of the common shape.

    Newton's steps inside an interval that shrinks, halved where a step leaves it.

    Args:
        price: of the option that is out of the money, over the forward, undiscounted, positive.
        log_strike: log(K / F); a call where it is positive.
        maturity: years.
    """
    call = log_strike > 0
    low, high = np.full_like(price, 1e-6), np.full_like(price, LARGEST_TOTAL)
    # Where the price bends, steps from either side go towards the answer.
    total = np.sqrt(np.maximum(2 * np.abs(log_strike), 1e-4))
    for _ in range(STEPS):
        excess = black_price(total, log_strike, call) - price
        high, low = np.where(excess > 0, total, high), np.where(excess > 0, low, total)
        d1 = -log_strike / total + 0.5 * total
        vega = np.exp(-0.5 * d1 * d1) / np.sqrt(2 * np.pi)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            step = total - excess / vega
        inside = (step > low) & (step < high)
        total = np.where(inside, step, 0.5 * (low + high))
    found: Floats = total / np.sqrt(maturity)
    return found
