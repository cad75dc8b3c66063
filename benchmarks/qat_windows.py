"""Windows over an order book and over stock prices, split by time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from qat_rows import Floats, Indices, Rows, Splits, splits, standardized, window_ends

SNAPSHOTS, LEVELS = 64, 10
BOOK_COLUMNS = 4 * LEVELS
HORIZON = 50
"""Snapshots over which the mid price is averaged, before and after the last one of a window."""
BIN_BPS = 25
BEST_VOLUMES = [1, 3]
SATOSHI = 1e-8
LARGEST = 5
"""Standard deviations, at which the columns of the book are cut."""
BOOK_STRIDES = (3, 3, 1)
"""A window teaches little that its neighbour does not; all are tested."""

DAYS, DAYS_AHEAD = 60, 5
STOCK_COLUMNS = 7
STOCK_STRIDES = (10, 10, 10)
VOLUME_DAYS = 20
SMALLEST_RANGE = 1e-4
"""Of log(high / low) of a day: its logarithm must be finite."""


def book_channels(data: Path) -> Splits:
    """Returns ``_order_book`` with input ``x`` of shape (rows, BOOK_COLUMNS, SNAPSHOTS)."""
    return _order_book(data, lambda windows: windows.swapaxes(1, 2))


def book_images(data: Path) -> Splits:
    """Returns ``_order_book`` with input ``x`` of shape (rows, 1, SNAPSHOTS, BOOK_COLUMNS)."""
    return _order_book(data, lambda windows: windows[:, None])


def _order_book(data: Path, layout: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Splits:
    """Returns windows of a limit order book and where its mid price goes: down 0, flat 1, up 2.

    The label compares the mean mid price of the next HORIZON snapshots with that of the last ones
    (Zhang, Zohren and Roberts 2019, arXiv 1808.03668, equation 4). It is flat where the change is
    within the third of the training changes that is closest to none.

    Source: Bitstamp BTC/USD of 2015-05-01, as in the R package obAnalytics (Stubbings 2016):
    DIR/bitstamp_btcusd_lob/depth_summary.parquet.
    """
    table = pq.read_table(data / "bitstamp_btcusd_lob" / "depth_summary.parquet")
    book = {name: table[name].to_numpy() for name in table.column_names if name != "timestamp"}
    log_mid = np.log((book["best.bid.price"] + book["best.ask.price"]) / 2)
    past = _mean_of_last(log_mid, HORIZON)
    change = np.full_like(past, np.nan)
    change[:-HORIZON] = past[HORIZON:] - past[:-HORIZON]
    reach = SNAPSHOTS + HORIZON - 2
    ends = window_ends(len(past), past=reach, future=HORIZON, strides=BOOK_STRIDES)
    flat = np.quantile(np.abs(change[ends[0]]), 1 / 3)
    labels = np.where(change > flat, 2, np.where(change < -flat, 0, 1))
    values = _levels(book)
    x = standardized(values, values[HORIZON - 1 : ends[0][-1] + 1]).clip(-LARGEST, LARGEST)

    def rows_of(part: Indices) -> Rows:
        windows = x[part[:, None] + np.arange(1 - SNAPSHOTS, 1)]
        return Rows({"x": np.ascontiguousarray(layout(windows))}, labels[part])

    return splits(ends, rows_of)


def _levels(book: dict[str, Floats]) -> Floats:
    """Returns the best price and the next bins of both sides, shape (snapshots, BOOK_COLUMNS).

    Per level, as in DeepLOB: ask price, ask volume, bid price, bid volume; log prices in basis
    points, an empty bin's that of its middle, and log(1 + BTC). Each is the difference from its
    mean over the last HORIZON snapshots, for levels drift within hours; only the best volumes are
    themselves. The first HORIZON - 1 rows are NaN.
    """
    columns = []
    for level in range(LEVELS):
        for side, sign in (("ask", 1), ("bid", -1)):
            best = book[f"best.{side}.price"]
            if level == 0:
                price, volume = best, book[f"best.{side}.vol"]
            else:
                width = f"{level * BIN_BPS}bps"
                volume, price = book[f"{side}.vol{width}"], book[f"{side}.vwap{width}"]
                middle = best * (1 + sign * (level - 0.5) * BIN_BPS * 1e-4)
                price = np.where(np.isnan(price), middle, price)
            columns += [np.log(price) * 1e4, np.log1p(volume * SATOSHI)]
    values = np.stack(columns, axis=1)
    usual = _mean_of_last(values, HORIZON)
    usual[:, BEST_VOLUMES] = np.where(np.isnan(usual[:, BEST_VOLUMES]), np.nan, 0)
    return values - usual


def _mean_of_last(values: Floats, steps: int) -> Floats:
    """Returns the mean of each row and the ``steps - 1`` before it; the first are NaN."""
    means = np.full_like(values, np.nan)
    means[steps - 1 :] = sliding_window_view(values, steps, axis=0).mean(axis=-1)
    return means


def stock_volatility(data: Path) -> Splits:
    """Returns windows of daily bars and the log volatility of the next DAYS_AHEAD days.

    Input ``x``: float32 (rows, DAYS, STOCK_COLUMNS). The label, standardised with the training
    rows, is the logarithm of the root of the mean squared log(high / low) (Parkinson 1980, Journal
    of Business 53(1), but for its constant factor). Windows with a missing bar are left out. The
    tickers are those of early 2018: good for measuring a model's error, not for trading.

    Source: Nugent 2018, "S&P 500 stock data", Kaggle:
    DIR/sp500_5yr_daily/all_stocks_5yr.parquet.
    """
    bars = _bars(data)
    values, log_range = _stock_columns(bars), np.log(bars["high"] / bars["low"])
    ends = window_ends(
        len(values), past=DAYS + VOLUME_DAYS - 2, future=DAYS_AHEAD, strides=STOCK_STRIDES
    )
    ahead = sliding_window_view(log_range**2, DAYS_AHEAD, axis=0).mean(axis=2)
    volatility = np.full(log_range.shape, np.nan)
    volatility[:-DAYS_AHEAD] = 0.5 * np.log(np.maximum(ahead[1:], SMALLEST_RANGE**2))
    known = values[VOLUME_DAYS - 1 : ends[0][-1] + 1].reshape(-1, STOCK_COLUMNS)
    x = standardized(values, known[np.isfinite(known).all(axis=1)])
    learned = volatility[ends[0]]
    y = standardized(volatility[..., None], learned[np.isfinite(learned)][:, None])[..., 0]

    def rows_of(part: Indices) -> Rows:
        # (ends, tickers, columns, days) → one row per end and ticker
        windows = sliding_window_view(x, DAYS, axis=0)[part - DAYS + 1]
        rows, labels = windows.reshape(-1, STOCK_COLUMNS, DAYS), y[part].reshape(-1)
        whole = np.isfinite(rows).all(axis=(1, 2)) & np.isfinite(labels)
        return Rows({"x": np.ascontiguousarray(rows[whole].swapaxes(1, 2))}, labels[whole])

    return splits(ends, rows_of)


def _bars(data: Path) -> dict[str, Floats]:
    """Returns the columns of the file as (days, tickers); NaN where there was no trade."""
    table = pq.read_table(data / "sp500_5yr_daily" / "all_stocks_5yr.parquet")
    days, day = np.unique(table["date"].to_numpy(), return_inverse=True)
    names = table["Name"].to_numpy(zero_copy_only=False).astype(str)
    tickers, ticker = np.unique(names, return_inverse=True)
    bars = {}
    for name in ("open", "high", "low", "close", "volume"):
        bars[name] = np.full((len(days), len(tickers)), np.nan)
        bars[name][day, ticker] = table[name].to_numpy()
    return bars


def _stock_columns(bars: dict[str, Floats]) -> Floats:
    """Returns what is known at the close of each day, shape (days, tickers, STOCK_COLUMNS)."""
    close, volume = np.log(bars["close"]), np.log1p(bars["volume"])
    before = np.vstack([np.full_like(close[:1], np.nan), close[:-1]])
    log_range = np.log(np.maximum(np.log(bars["high"] / bars["low"]), SMALLEST_RANGE))
    usual = _mean_of_last(volume, VOLUME_DAYS)
    change = close - before
    market_change, market_range = (_mean_of_day(values) for values in (change, log_range))
    columns = [
        change,
        np.abs(change),
        np.log(bars["open"]) - before,
        log_range,
        volume - usual,
        np.broadcast_to(market_change, change.shape),
        np.broadcast_to(market_range, change.shape),
    ]
    return np.stack(columns, axis=2)


def _mean_of_day(values: Floats) -> Floats:
    """Returns the mean over the tickers with a bar, shape (days, 1); NaN on a day without any."""
    present = np.isfinite(values)
    total = np.where(present, values, 0).sum(axis=1, keepdims=True)
    count = present.sum(axis=1, keepdims=True)
    mean: Floats = total / np.where(count > 0, count, np.nan)
    return mean
