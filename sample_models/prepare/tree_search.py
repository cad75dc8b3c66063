"""S&P 500: daily bars of all stocks in one table, ``date``, ``close`` and ``Name`` among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.data.generators.execution import STRENGTH, Floats
from qtool.data.generators.parent_orders import (
    DECISIONS,
    RETURNS,
    Orders,
    order_rows,
    spread_of,
)
from sample_models.prepare.tables import only, read_table

FORGETTING = 0.94
"""Of the volatility: RiskMetrics 1996, daily."""
WARM_UP = 60
"""Days before the first order."""
BETWEEN = 5
"""Days from one day on which orders are started to the next."""
STOCKS = 12
"""Orders started on one day."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns orders of every fifth day, twelve stocks each, in the columns of ``parent_orders``.

    Volatilities are exponentially weighted; spreads, which bars do not tell, are ``spread_of`` the
    close. The signal is reversal (Jegadeesh 1990): the mean of the last five returns, negative, at
    the strength that the generator's signal has.

    Source: Nugent 2018, S&P 500 stock data.
    """
    table = read_table(only(files)).select(["Name", "date", "close"])
    table = table.sort_by([("Name", "ascending"), ("date", "ascending")])
    names, first = np.unique(table["Name"].to_numpy(zero_copy_only=False), return_index=True)
    dates = table["date"].to_numpy().astype("datetime64[D]")
    closes = table["close"].to_numpy().astype(np.float64)
    whole = len(np.unique(dates))
    ends = np.append(first[1:], len(dates))
    # Stocks that were listed all the time, so that all have the same days.
    held = [
        (str(n), slice(a, b)) for n, a, b in zip(names, first, ends, strict=True) if b - a == whole
    ]
    prices = np.stack([closes[rows] for _, rows in held], axis=1)
    return pa.Table.from_batches(_batches([name for name, _ in held], dates[held[0][1]], prices))


def _batches(
    names: Sequence[str], days: np.ndarray[tuple[int], np.dtype[np.datetime64]], prices: Floats
) -> Iterator[pa.RecordBatch]:
    """Yields the orders of each day; ``prices`` are (days, stocks)."""
    returns = 1e4 * np.diff(np.log(prices), axis=0, prepend=np.log(prices[:1]))
    variance = np.empty_like(returns)
    variance[0] = returns[1:WARM_UP].var(axis=0)
    for day in range(1, len(days)):
        variance[day] = FORGETTING * variance[day - 1] + (1 - FORGETTING) * returns[day] ** 2
    for number, day in enumerate(range(WARM_UP, len(days) - DECISIONS, BETWEEN)):
        chosen = (number * STOCKS + np.arange(STOCKS)) % len(names)
        volatility = np.sqrt(variance[day, chosen])
        # Day by day, those before each decision, and the one that follows it.
        near = returns[day - RETURNS + 1 : day + DECISIONS + 1, chosen].T
        means = np.stack([near[:, i : i + RETURNS].mean(axis=1) for i in range(DECISIONS)], axis=1)
        yield order_rows(
            Orders(
                names=[f"{names[stock]} {days[day]}" for stock in chosen.tolist()],
                started=np.repeat(days[day], STOCKS),
                volatility=volatility,
                spread=spread_of(prices[day, chosen], volatility),
                # Their mean has a fifth of the variance of a return.
                signals=-STRENGTH * np.sqrt(RETURNS) * means,
                returns=near,
            ),
            seed=number,
        )
