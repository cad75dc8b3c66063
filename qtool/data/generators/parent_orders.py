"""Large sell orders, step by step, with what each next step would cost: seeded, of any size.

**What a row is.** One order on one of its ``STEPS`` days but the last, which sells all: what is
``remaining`` of it, ``steps_left``, the estimates of ``volatility`` (basis points a day) and
``spread`` (basis points) it was started with, the ``signal``, a forecast of the next day's return
in basis points, and ``return_1`` … ``return_5``, the last days' returns, the latest first.
``costs`` is the least expected cost, in basis points of what is left, after each of the paces of
``execution.PACES``, exact by dynamic programming. ``state`` is what a network reads of it, see
``features``. ``next_return`` is what the price then did, ``started`` the day of the order. Rows are
in the order of ``started``, ``ORDERS`` orders each day, each with its days after one another.
``sample_models.prepare tree_search`` makes the same columns of daily bars.

**How it is made.** A stock has a price and a volatility; its spread is one cent and a hundredth of
the volatility. Returns have the drift that the signal says, Student's t tails, and a volatility
that wanders around the estimate. What is left of an order comes from paces chosen by chance, so
that all states occur. Each block of orders has a stream of its own.

Statistics, in brackets those of S&P 500 stocks from 2013 to 2018 (Nugent 2018;
``tests/data/test_parent_orders.py`` holds the claims): median volatility 127 basis points (129), 5
to 95 % of them from 72 to 240 (75 to 265), median spread 3.0 (3.0), 2.0 % of returns beyond three
estimated volatilities (1.9 %), and a signal whose correlation a day later is 0.8 (0.8). The real
signal foretells next to nothing (a correlation of 0.01), this one its own share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream
from qtool.data.generators.execution import (
    MEMORY,
    PACES,
    RISK_AVERSION,
    STEPS,
    STRENGTH,
    TEMPORARY,
    Floats,
    Solution,
    share_sold,
)

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

RETURNS = 5
"""Days before a decision whose returns it sees."""
FEATURES = 8 + RETURNS
COLUMNS = (
    *("remaining", "steps_left", "volatility", "spread", "signal"),
    *(f"return_{day}" for day in range(1, RETURNS + 1)),
)
"""Of a state, in the order in which ``features`` takes them."""
DECISIONS = STEPS - 1
"""Of an order."""
ORDERS = 16
"""Started on one day, and made at a time."""
START = np.datetime64("2013-02-08", "D")
SCHEMA = pa.schema(
    [
        ("order", pa.string()),
        ("started", pa.date32()),
        *((name, pa.float32()) for name in COLUMNS),
        ("state", pa.list_(pa.float32(), FEATURES)),
        ("next_return", pa.float32()),
        ("costs", pa.list_(pa.float32(), len(PACES))),
    ]
)
MOST_SOLD = 0.7
"""Share of what is left that is sold by chance in a step: nothing is to decide once all is sold."""
TICK = 0.01
"""Of a price, US dollars."""


@dataclass(frozen=True)
class ParentOrders:
    """The source ``{generator: parent_orders, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"parent_orders(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("parent_orders", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the orders by the day they were started."""
        left, day = self.rows, 0
        while left > 0:
            batch = order_rows(_orders(random_stream(self.seed, day), day), day)
            yield from cut(batch.select(list(columns)).slice(0, left), batch_rows)
            left, day = left - batch.num_rows, day + 1


@dataclass(frozen=True, eq=False)
class Orders:
    """Orders and the market they are sold in.

    Attributes:
        names: (orders,).
        started: datetime64[D], (orders,).
        volatility: estimate at the start, basis points a day, (orders,).
        spread: basis points, (orders,).
        signals: of every decision, basis points, (orders, DECISIONS).
        returns: basis points, (orders, RETURNS + DECISIONS): those before the first decision, then
            those that follow each decision.
    """

    names: Sequence[str]
    started: NDArray[np.datetime64]
    volatility: Floats
    spread: Floats
    signals: Floats
    returns: Floats


def spread_of(price: Floats, volatility: Floats) -> Floats:
    """Returns the spread that is assumed, basis points: a tick, and 1 % of the volatility."""
    found: Floats = 1e4 * TICK / price + 0.01 * volatility
    return found


def features(columns: Floats) -> Floats:
    """Returns what a network reads of states, (n, FEATURES), each of about unit size.

    Beside the columns these are what decides the pace: the urgency of Almgren and Chriss, the
    logarithm of κ², and what the signal is worth beside the spread.

    Args:
        columns: (n, 5 + RETURNS), those from ``remaining`` to the last of the returns.
    """
    remaining, steps_left, volatility, spread, signal = columns[:, :5].T
    known = [
        4 * remaining - 1,
        2 * steps_left / STEPS - 1,
        4 / steps_left,
        2 * np.log(volatility / 130),
        2 * np.log(spread / 3),
        signal / (STRENGTH * volatility),
        np.log(RISK_AVERSION * volatility**2 / (TEMPORARY * spread)) + 5,
        signal / spread,
    ]
    returns = columns[:, 5:] / (2 * volatility[:, None])
    return np.hstack([np.stack(known, axis=1), returns])


def order_rows(orders: Orders, seed: int) -> pa.RecordBatch:
    """Returns the decisions of orders, in the columns of ``SCHEMA``, order by order.

    Args:
        orders: any number.
        seed: of the paces by which what is left comes about.
    """
    count = len(orders.names)
    random = random_stream(seed, 1 << 32)
    chosen = random.integers(0, len(PACES), (count, DECISIONS))
    solution = Solution(orders.spread, orders.volatility)
    remaining = np.ones((count, DECISIONS))
    costs = np.empty((count, DECISIONS, len(PACES)))
    for step in range(DECISIONS):
        left = STEPS - step
        costs[:, step] = solution.costs(left, remaining[:, step], orders.signals[:, step])
        if step + 1 < DECISIONS:
            shares = np.array([share_sold(action, left) for action in range(len(PACES))])
            shares = np.minimum(shares, MOST_SOLD)
            remaining[:, step + 1] = remaining[:, step] * (1 - shares[chosen[:, step]])
    columns = {
        "order": np.repeat(np.array(orders.names), DECISIONS),
        "started": np.repeat(orders.started, DECISIONS),
        "remaining": remaining.reshape(-1),
        "steps_left": np.tile(np.arange(STEPS, 1, -1), count),
        "volatility": np.repeat(orders.volatility, DECISIONS),
        "spread": np.repeat(orders.spread, DECISIONS),
        "signal": orders.signals.reshape(-1),
        "next_return": orders.returns[:, RETURNS:].reshape(-1),
    }
    for day in range(1, RETURNS + 1):
        columns[f"return_{day}"] = orders.returns[:, RETURNS - day : -day].reshape(-1)
    known = np.stack([columns[name] for name in COLUMNS], axis=1)
    found = {
        name: pa.array(values).cast(SCHEMA.field(name).type) for name, values in columns.items()
    }
    for name, values in (("state", features(known)), ("costs", costs)):
        flat = pa.array(values.reshape(-1).astype(np.float32))
        found[name] = pa.FixedSizeListArray.from_arrays(flat, SCHEMA.field(name).type.list_size)
    return pa.RecordBatch.from_arrays([found[name] for name in SCHEMA.names], schema=SCHEMA)


def _orders(random: np.random.Generator, day: int) -> Orders:
    price = 63 * np.exp(0.7 * random.standard_normal(ORDERS))
    volatility = 130 * np.exp(0.37 * random.standard_normal(ORDERS))
    days = RETURNS + DECISIONS
    signals = np.empty((ORDERS, days))
    shocks = random.standard_normal((ORDERS, days))
    signals[:, 0] = shocks[:, 0]
    for step in range(1, days):
        signals[:, step] = MEMORY * signals[:, step - 1] + np.sqrt(1 - MEMORY**2) * shocks[:, step]
    signals *= STRENGTH * volatility[:, None]
    wander = np.exp(0.3 * random.standard_normal((ORDERS, 1)))
    # Variance 1 with 5 degrees of freedom.
    shocks = random.standard_t(5, (ORDERS, days)) / np.sqrt(5 / 3)
    return Orders(
        names=[f"order {day * ORDERS + number}" for number in range(1, ORDERS + 1)],
        started=np.repeat(START + day, ORDERS),
        volatility=volatility,
        spread=spread_of(price, volatility),
        signals=signals[:, RETURNS:],
        returns=signals + volatility[:, None] * wander * shocks,
    )
