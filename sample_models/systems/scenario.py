"""A Monte Carlo risk engine on the pricing surrogate: value at risk of portfolios of options."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.data.generators.heston import black_price
from qtool.data.generators.heston_options import MONTH, OPTION, SMILE
from qtool.evaluation.system import Predict

CHUNK_SCENARIOS = 16
"""Revalued at a time."""
LEVEL = 0.99

Floats = NDArray[np.float64]
Volatility = Callable[[Floats], Floats]
"""Options in the columns ``OPTION``, (rows, 8) → implied volatilities in points, (rows,)."""
K, T, RATE, V0, KAPPA, THETA, SIGMA, RHO = range(len(OPTION))


def risk(
    fp32: Predict, int8: Predict, rows: Batch, positions: int = 20, seed: int = 0
) -> dict[str, tuple[Floats, Floats]]:
    """Returns the figures of every portfolio with both models.

    A portfolio is ``positions`` options, bought or sold: puts below the forward, calls above it.
    Scenarios are the months of the rows, one per smile, as filtered historical simulation takes
    them (Barone-Adesi, Giannopoulos and Vosper 1999, Journal of Futures Markets 19(5)): a spot
    return counts in standard deviations of its own month, and moves each underlying by as many of
    its own, all at once; log(v0) and the rate move as they did, log(theta) half as far.

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: options with the input ``option`` and the columns ``MONTH``.
        positions: of a portfolio.
        seed: of the quantities.

    Returns:
        ``var_99`` and ``expected_shortfall`` (at 99 %), the loss of a month in percent of what all
        positions are worth, bought and sold, (portfolios,) each; ``scenarios_per_second``, of the
        revaluation of one portfolio, (1,).
    """
    return compare(_by_model(fp32), _by_model(int8), rows, positions, seed)


def compare(
    one: Volatility, other: Volatility, rows: Batch, positions: int, seed: int
) -> dict[str, tuple[Floats, Floats]]:
    """Returns what ``risk`` does, of any two functions that give volatilities."""
    found = [_simulated(volatility, rows, positions, seed) for volatility in (one, other)]
    return {name: (found[0][name], found[1][name]) for name in found[0]}


def _simulated(volatility: Volatility, rows: Batch, positions: int, seed: int) -> dict[str, Floats]:
    portfolios = len(rows) // positions
    options = rows.inputs["option"][: portfolios * positions].astype(np.float64)
    quantity = np.random.default_rng(seed).standard_normal(len(options))
    call = options[:, K] > options[:, RATE] * options[:, T]
    spot, variance, rate = (rows.columns[name][::SMILE].astype(np.float64) for name in MONTH)
    own = spot / np.sqrt(rows.inputs["option"][::SMILE, V0] / 12)

    value = quantity * _prices(volatility, options, np.ones(len(options)), call)
    held = np.abs(value).reshape(portfolios, positions).sum(axis=1)
    losses, started = [], time.perf_counter()
    for first in range(0, len(own), CHUNK_SCENARIOS):
        months = slice(first, first + CHUNK_SCENARIOS)
        moved, growth = shocked(options, own[months], variance[months], rate[months])
        count = len(growth)
        prices = _prices(
            volatility, moved.reshape(-1, len(OPTION)), growth.reshape(-1), np.tile(call, count)
        )
        change = (value - quantity * prices.reshape(count, -1)).reshape(count, portfolios, -1)
        losses.append(change.sum(axis=2))
    seconds = time.perf_counter() - started
    loss = 100 * np.concatenate(losses) / held
    var = np.quantile(loss, LEVEL, axis=0)
    tail = loss >= var
    return {
        "var_99": var,
        "expected_shortfall": (loss * tail).sum(axis=0) / tail.sum(axis=0),
        "scenarios_per_second": np.array([len(loss) * portfolios / seconds]),
    }


def shocked(options: Floats, spot: Floats, variance: Floats, rate: Floats) -> tuple[Floats, Floats]:
    """Returns the options in every scenario, and by how much each spot grew.

    Args:
        options: (rows, 8), in the columns ``OPTION``.
        spot: log returns in standard deviations of a month, (scenarios,).
        variance: changes of log(v0), likewise.
        rate: changes of the rate, likewise.

    Returns:
        (scenarios, rows, 8) and (scenarios, rows).
    """
    moved = np.repeat(options[None], len(spot), axis=0)
    returns = spot[:, None] * np.sqrt(options[:, V0] / 12)
    moved[..., K] -= returns
    moved[..., RATE] += rate[:, None]
    moved[..., V0] *= np.exp(variance)[:, None]
    moved[..., THETA] *= np.exp(variance / 2)[:, None]
    return moved, np.exp(returns)


def _prices(
    volatility: Volatility, options: Floats, spot: Floats, call: NDArray[np.bool_]
) -> Floats:
    """Returns the prices today, (rows,), in the unit of ``spot``."""
    maturity = options[:, T]
    total = volatility(options) / 100 * np.sqrt(maturity)
    log_strike = options[:, K] - options[:, RATE] * maturity
    # A price over the forward, undiscounted, is one over the spot, discounted.
    return spot * black_price(np.maximum(total, 1e-6), log_strike, call)


def _by_model(predict: Predict) -> Volatility:
    def volatility(options: Floats) -> Floats:
        (output,) = predict({"option": options.astype(np.float32)}).values()
        return output[:, 0].astype(np.float64)

    return volatility
