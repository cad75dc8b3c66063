"""A limit order book as windows to predict the mid-price from: seeded, of any size.

**What a row is.** The book after ``PAST`` changes of its ``LEVELS`` best levels a side, every
``STRIDE`` changes: ``book`` (PAST, 4 * LEVELS) holds per level ask price, ask volume, bid price and
bid volume, as FI-2010 does (Ntakaris et al. 2018, arXiv 1705.03233); prices in basis points of the
last mid-price, volumes in units of the asset. ``direction`` says whether the mean mid-price of the
following ``AHEAD`` changes is more than ``FLAT_BPS`` below the last one (0), near it (1) or above
(2), equation 4 of Zhang, Zohren and Roberts 2019 (arXiv 1808.03668). ``next_bps`` is the return of
the mid-price until the next row, as ``spread`` in basis points. ``sample_models.prepare
order_book`` makes the same columns of a recorded book. Rows are in the order of time.

**How it is made.** Limit orders, cancellations and market orders arrive one by one (Cont, Stoikov
and Talreja 2010, Operations Research 58(3)), their prices at heavy-tailed distances from the best,
their volumes log-normal. A hidden pressure, which returns to zero, decides which side they come to,
so that the imbalance of the queues and the flow of orders both tell of the next moves, and
depth far from the best is noise. Nothing is kept but the book and one block of rows.

Statistics, in brackets those of the Bitstamp BTC/USD book of 2015-05-01 (Stubbings 2016,
obAnalytics; ``tests/data/test_order_books.py`` holds the claims): median spread 5 basis points (8),
median volumes of the best level 2.5 (0.9) and of the tenth 2.6 (8); 13 % of changes move the
mid-price (10 %), the mean of the next 100 is a basis point away or more after 65 % of them (52 %),
down 40, flat 21 and up 39 % (32, 35, 33), and its correlation with the imbalance of the best level
is 0.32 (0.35).
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

LEVELS = 10
PAST, AHEAD = 100, 100
"""Changes of the book in a window, and those whose mean mid-price is predicted."""
STRIDE = 5
"""Changes from one window to the next."""
FLAT_BPS = 0.5
"""About one tick of the recorded book."""
FIRST_PRICE = 23_600
"""Of the simulated book, in ticks."""
USUAL_LEVELS, MOST_CANCELLED = 110, 1.6
"""Of a side: with more levels than usual more of the orders are cancelled than come; at most 0.8 of
all, so that a full book still gets new ones."""
MARKET, FLEETING = 0.005, 0.93
"""Share of market orders; of cancellations those that withdraw the newest order."""
MEMORY, PULL, REACTION = 0.985, 0.5, 1.2
"""Share of the pressure that is left after an order, and how much the side of the next one follows
the pressure and the imbalance of the best levels (Huang, Lehalle and Rosenbaum 2015, arXiv
1312.0563)."""
CANCELLED_DEPTH, DISTANCE = 18.0, 4.1
"""Levels, on average, from the best to a cancellation; logarithm of the median distance of a new
order from the opposite best, in ticks."""
BLOCK = 8192
"""Orders drawn at a time."""
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("ms")),
        ("spread", pa.float32()),
        ("book", pa.list_(pa.list_(pa.float32(), 4 * LEVELS), PAST)),
        ("next_bps", pa.float32()),
        ("direction", pa.int64()),
    ]
)
ROWS = 256
"""Rows made at a time."""
START_MS = 1_430_438_400_000
"""2015-05-01 00:00 UTC."""
BURN_IN_MS = 600_000
"""Until the book has forgotten how it was filled."""

Floats = NDArray[np.float64]
Update = tuple[int, bool, int, float]
"""Time in ms since 1970, whether it is a bid, price in ticks, volume now at that price, or 0."""


@dataclass(frozen=True)
class OrderBooks:
    """The source ``{generator: order_books, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"order_books(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("order_books", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the windows in the order of time."""
        left = self.rows
        for batch in window_batches(order_flow(self.seed), START_MS + BURN_IN_MS):
            yield from cut(batch.select(list(columns)).slice(0, left), batch_rows)
            left -= batch.num_rows
            if left <= 0:
                return


@dataclass
class Side:
    """One side of a book: volumes by key, and the keys in order, the best first.

    The key of a price is the price itself of asks and its negative of bids, in ticks.
    """

    volumes: dict[int, float] = field(default_factory=dict)
    keys: list[int] = field(default_factory=list)

    def put(self, key: int, volume: float) -> None:
        """Sets the volume at a price; 0 removes it."""
        known = key in self.volumes
        if volume > 0:
            if not known:
                insort(self.keys, key)
            self.volumes[key] = volume
        elif known:
            del self.volumes[key]
            del self.keys[bisect_left(self.keys, key)]


def window_batches(updates: Iterable[Update], start_ms: int) -> Iterator[pa.RecordBatch]:
    """Yields the windows of a book in the columns of ``SCHEMA``, ``ROWS`` or fewer at a time.

    Only what changes the best ``LEVELS`` is a step of a window. Moments in which the book is
    crossed, or has fewer levels, are left out.

    Args:
        updates: in the order of time.
        start_ms: nothing before it is in a window.
    """
    needed = PAST + AHEAD + 1  # the last row's return goes one step beyond its window, at least
    times: list[int] = []
    books: list[Floats] = []
    for time, book in snapshots(updates, start_ms):
        times.append(time)
        books.append(book)
        if len(books) >= needed + (ROWS - 1) * STRIDE:
            yield _windows(np.array(times), np.array(books), ROWS)
            del times[: ROWS * STRIDE], books[: ROWS * STRIDE]
    rows = (len(books) - needed) // STRIDE + 1
    if rows > 0:
        yield _windows(np.array(times), np.array(books), rows)


def snapshots(updates: Iterable[Update], start_ms: int) -> Iterator[tuple[int, Floats]]:
    """Yields time and best levels, (LEVELS, 4) in ticks and units, whenever they change."""
    asks, bids = Side(), Side()
    last: tuple[float, ...] = ()
    for time, is_bid, price, volume in updates:
        side, key = (bids, -price) if is_bid else (asks, price)
        deep = len(side.keys) >= LEVELS and key > side.keys[LEVELS - 1]
        side.put(key, volume)
        if deep or time < start_ms or min(len(asks.keys), len(bids.keys)) < LEVELS:
            continue
        best_asks, best_bids = asks.keys[:LEVELS], bids.keys[:LEVELS]
        if -best_bids[0] >= best_asks[0]:
            continue
        found = (
            *best_asks,
            *(asks.volumes[key] for key in best_asks),
            *(-key for key in best_bids),
            *(bids.volumes[key] for key in best_bids),
        )
        if found != last:
            last = found
            yield time, np.array(found, np.float64).reshape(4, LEVELS).T


def _windows(times: NDArray[np.int64], books: Floats, rows: int) -> pa.RecordBatch:
    """Returns the first windows of consecutive snapshots, (n, LEVELS, 4)."""
    last = PAST - 1 + STRIDE * np.arange(rows)
    mid = (books[:, 0, 0] + books[:, 0, 2]) / 2
    now = mid[last]
    ahead = sliding_window_view(mid[1:], AHEAD)[last].mean(axis=1)
    move = 1e4 * (ahead / now - 1)
    windows = sliding_window_view(books, PAST, axis=0)[last - PAST + 1].transpose(0, 3, 1, 2)
    values = windows.astype(np.float32)
    # Differences of prices before they become float32: a tick is 1/25,000 of a price.
    prices = windows[..., ::2]
    values[..., ::2] = 1e4 * (prices / now[:, None, None, None] - 1)
    flat = pa.array(values.reshape(-1))
    book = pa.FixedSizeListArray.from_arrays(flat, 4 * LEVELS)
    columns = {
        "time": times[last],
        "spread": (1e4 * (books[last, 0, 0] - books[last, 0, 2]) / now).astype(np.float32),
        "book": pa.FixedSizeListArray.from_arrays(book, PAST),
        "next_bps": (1e4 * (mid[last + STRIDE] / now - 1)).astype(np.float32),
        "direction": 1 + (move > FLAT_BPS).astype(np.int64) - (move < -FLAT_BPS),
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(columns[one.name], one.type) for one in SCHEMA], schema=SCHEMA
    )


def order_flow(seed: int) -> Iterator[Update]:
    """Yields the changes of a simulated book without end, as ``window_batches`` reads them."""
    asks, bids = Side(), Side()
    newest = {True: 0, False: 0}
    clock, pressure = float(START_MS), 0.0
    for block in itertools.count():
        random = random_stream(seed, block)
        draws = random.random((BLOCK, 4)).tolist()
        normals = random.standard_normal((BLOCK, 4)).tolist()
        for (kind, towards, depth, age), (shock, distance, size, wait) in zip(
            draws, normals, strict=True
        ):
            clock += 130.0 * math.exp(1.4 * wait)
            pressure = MEMORY * pressure + math.sqrt(1 - MEMORY**2) * shock
            pull = PULL * pressure + REACTION * _imbalance(bids, asks)
            upwards = towards < 1 / (1 + math.exp(-pull))
            # Buyers add bids or take asks away, sellers the other way round.
            bought = asks if upwards else bids
            cancelled = 0.5 * min(len(bought.keys) / USUAL_LEVELS, MOST_CANCELLED)
            if kind < MARKET and len(bought.keys) > 2 * LEVELS:
                found, is_bid = _taken(bought, 0.8 * math.exp(1.5 * size)), not upwards
            elif kind > 1 - cancelled:
                place = min(int(-CANCELLED_DEPTH * math.log(1 - depth)), len(bought.keys) - 1)
                last = newest[not upwards]
                key = last if age < FLEETING and last in bought.volumes else bought.keys[place]
                found, is_bid = [(key, 0.0)], not upwards
            else:
                side, is_bid = (bids, True) if upwards else (asks, False)
                opposite = -bought.keys[0] if bought.keys else FIRST_PRICE * (-1) ** is_bid
                key = opposite + 1 + int(math.exp(DISTANCE + 0.9 * distance))
                volume = side.volumes.get(key, 0.0) + 1.8 * math.exp(1.4 * size)
                found, newest[is_bid] = [(key, volume)], key
            for key, volume in found:
                (bids if is_bid else asks).put(key, volume)
                yield int(clock), is_bid, -key if is_bid else key, volume


def _imbalance(bids: Side, asks: Side) -> float:
    """Returns the imbalance of the best levels, from -1 (asks only) to 1; 0 in an empty book."""
    if not (bids.keys and asks.keys):
        return 0.0
    bid, ask = bids.volumes[bids.keys[0]], asks.volumes[asks.keys[0]]
    return (bid - ask) / (bid + ask)


def _taken(side: Side, volume: float) -> list[tuple[int, float]]:
    """Returns what a market order leaves at the prices that it reaches, among the best levels."""
    found = []
    for key in side.keys[:LEVELS]:
        found.append((key, max(side.volumes[key] - volume, 0.0)))
        volume -= side.volumes[key]
        if volume <= 0:
            break
    return found
