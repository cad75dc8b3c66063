"""Bitstamp BTC/USD: the changes of depth, ``depth`` of obAnalytics as Parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qtool.data.generators.order_books import Update, window_batches
from sample_models.prepare.tables import only, read_table

TICK = 0.01
"""US dollars."""
UNIT = 1e8
"""Volumes are in satoshi."""
FIRST_MINUTES = 2
"""Without windows: the recording starts with an empty book, which orders fill as they change."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns windows of the book in the columns of ``order_books``.

    The file has one row per change: ``timestamp``, ``price`` in US dollars, ``volume`` at that
    price from then on, and ``side``, bid or ask.

    Source: Stubbings 2016, obAnalytics: Limit Order Book Analytics (R package).
    """
    table = read_table(only(files))
    times = table["timestamp"].cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).to_numpy()
    start = int(times[0]) + 60_000 * FIRST_MINUTES

    def updates() -> Iterator[Update]:
        ticks = np.rint(table["price"].to_numpy() / TICK).astype(np.int64)
        is_bid = pc.equal(table["side"], "bid")
        volumes = table["volume"].to_numpy() / UNIT
        columns = times.tolist(), is_bid.to_pylist(), ticks.tolist(), volumes.tolist()
        yield from zip(*columns, strict=True)

    return pa.Table.from_batches(window_batches(updates(), start))
