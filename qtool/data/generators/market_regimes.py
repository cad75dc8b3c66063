"""Daily windows of assets whose volatility follows hidden regimes: seeded, streaming, of any size.

**What a row is.** One asset on one day: ``window`` holds the last ``DAYS`` days, each as
``FEATURES``: overnight and intraday log return over the asset's usual standard deviation of a day,
log range (high over low) and log volume less their usual values. ``regime`` is that of the last
day: 0 calm, 1 volatile, 2 crisis. ``STRIDE`` days lie between the windows of an asset, which follow
each other; all assets have the same days. ``sample_models.prepare regimes`` makes the same columns
of daily bars of the S&P 500 constituents (Nugent 2018, "S&P 500 stock data", Kaggle), whose
statistics were the model.

**How it is made.** A Markov chain of regimes (Hamilton 1989, Econometrica 57(2)) sets the level of
the volatility, around which it moves by itself, so that no regime is a normal distribution; the
usual level of an asset drifts. Range and volume follow the volatility with noise of their own, that
of volume lasts for days. Crises begin with falling prices. The same seed gives the same assets:
more rows add assets and change none, and the size of the batches plays no part.

Statistics, in brackets those of the prepared constituents (``tests/data/test_market_regimes.py``
holds the claims; their regimes are those of a fitted model). 39 % of the windows end calm (42 %),
9 % in a crisis (10 %). Standard deviations are 0.58 overnight (0.61), 0.84 intraday (0.81), 0.52 of
the log range (0.45) and 0.42 of the log volume (0.47). The log range is -0.35 when calm (-0.37) and
0.69 in a crisis (0.69), but its spread within a regime is 0.42 (0.27): here a regime cannot be read
off one day. Its correlation with that of the day before is 0.48 (0.41), of 20 days before 0.15
(0.18), with volume 0.55 (0.55). Overnight returns have heavy tails, those of the constituents, with
their announcements, heavier ones (kurtosis 63, 219); volume forgets sooner (correlation over 20
days 0.1, 0.28).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

FEATURES = ("overnight", "intraday", "log_range", "log_volume")
DAYS = 64
"""Of a window."""
STRIDE = 4
WINDOWS = 240
"""Of each asset."""
START = np.datetime64("2013-02-08", "D")
STAY = np.array([0.97, 0.97, 0.955])
"""Probability that a regime lasts another day."""
MOVES = np.array([[0.0, 0.95, 0.05], [0.75, 0.0, 0.25], [0.1, 0.9, 0.0]])
"""Where to, once it ends."""
VOLATILITY = np.array([0.7, 1.05, 2.0])
"""Of a day, in its usual standard deviations."""
DRIFT = np.array([0.04, 0.0, -0.2])
SCHEMA = pa.schema(
    [
        ("asset", pa.string()),
        ("date", pa.date32()),
        ("window", pa.list_(pa.list_(pa.float32(), len(FEATURES)), DAYS)),
        ("regime", pa.int64()),
    ]
)

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True)
class MarketRegimes:
    """The source ``{generator: market_regimes, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"market_regimes(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("market_regimes", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the windows by asset and date."""
        days = DAYS + (WINDOWS - 1) * STRIDE
        dates = np.busday_offset(START, np.arange(days))
        for first in range(0, self.rows, WINDOWS):
            asset = first // WINDOWS
            features, regimes = make_asset(self.seed, asset, days)
            batch = windows_of(f"asset {asset + 1}", dates, features, regimes, STRIDE)
            yield from cut(batch.select(list(columns)).slice(0, self.rows - first), batch_rows)


def windows_of(
    asset: str, dates: Dates, features: Float32, regimes: Int64, stride: int
) -> pa.RecordBatch:
    """Returns the windows of one asset in the columns of ``SCHEMA``, by date.

    Args:
        asset: its name.
        dates: datetime64[D], (days,).
        features: (days, features); the last window ends with the last day.
        regimes: of each day, (days,).
        stride: days from one window to the next.
    """
    last = np.arange(DAYS - 1 + (len(dates) - DAYS) % stride, len(dates), stride)
    values = features[last[:, None] + np.arange(1 - DAYS, 1)]
    steps = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), len(FEATURES))
    columns = [
        pa.array([asset] * len(last)),
        pa.array(dates[last]),
        pa.FixedSizeListArray.from_arrays(steps, DAYS),
        pa.array(regimes[last]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def make_asset(seed: int, asset: int, days: int) -> tuple[Float32, Int64]:
    """Returns the features (days, features) and the regimes (days,) of one asset."""
    random = random_stream(seed, asset)
    regimes = _chain(random, days)
    began = np.diff(regimes, prepend=regimes[0]) > 0
    own = _lasting(random, days, 0.8, 0.22)
    usual = 0.12 * np.tanh(_lasting(random, days, 0.998, 0.8))
    volatility = np.exp(np.log(VOLATILITY[regimes]) + own + usual)
    drift = DRIFT[regimes] - 0.8 * (began & (regimes == 2))
    noise = random.standard_normal((2, days))
    overnight = volatility * (0.4 * drift + 0.3 * random.standard_t(3, days))
    intraday = volatility * (0.6 * drift + 0.75 * noise[0])
    # The range is never less than what was earned within it.
    width = volatility * np.exp(0.25 * noise[1]) * 0.75 + np.abs(intraday)
    volume = 0.65 * np.log(volatility) + 0.2 * (np.log(width) - np.log(volatility))
    features = np.stack(
        [
            overnight,
            intraday,
            np.log(width) - 0.25,
            volume + _lasting(random, days, 0.75, 0.33),
        ],
        axis=1,
    )
    return features.astype(np.float32), regimes


def _chain(random: np.random.Generator, days: int) -> Int64:
    regimes = np.empty(days, np.int64)
    stays, moves = random.random(days), random.random(days)
    now = 0
    for day in range(days):
        if stays[day] >= STAY[now]:
            now = int(np.searchsorted(np.cumsum(MOVES[now]), moves[day], side="right"))
        regimes[day] = now
    return regimes


def _lasting(
    random: np.random.Generator, days: int, persistence: float, deviation: float
) -> NDArray[np.float64]:
    """Returns an autoregressive process of order 1, (days,)."""
    shocks = random.standard_normal(days) * deviation * np.sqrt(1 - persistence**2)
    values = np.empty(days)
    values[0] = deviation * random.standard_normal()
    for day in range(1, days):
        values[day] = persistence * values[day - 1] + shocks[day]
    return values
