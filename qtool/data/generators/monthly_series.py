"""Monthly business series as windows to forecast from: seeded, of any size.

**What a row is.** One series at one month: ``history`` holds its last 36 values, ``future`` the
next 18, the horizon of the monthly series of the M3 competition (Makridakis and Hibon 2000,
International Journal of Forecasting 16(4)), which were the model; ``year_sin`` and ``year_cos``
place the last month in the year. ``sample_models/prepare/cash_flow_m3.py`` makes the same columns
of the M3 file. Rows are in the order of ``month``, all ``SERIES`` after each other. No value is one
of M3.

**How it is made.** A series has a mean, growth that drifts, a seasonal profile and noise; how large
these are differs between series as it does in M3, from smooth macroeconomic ones to erratic sales.
Some levels move for good, some months are far off. The same rows and seed give the same data; more
rows are more months, of another panel. While rows are read the panel is in memory, about 8 bytes
for each of them.

Statistics, in brackets those of the 1,428 monthly series of M3
(``tests/data/test_monthly_series.py`` holds the claims): of the changes of the logarithm from month
to month the standard deviation is 0.10 in the median series (0.11), 0.015 and 0.67 at the 5th and
95th percentile (0.006, 0.55); the seasonal profile's is 0.05 (0.06). The last value as the forecast
of 18 months has a sMAPE of 17 % (18 %), the same months of the last year 17 % (17 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

SERIES = 200
PAST, AHEAD = 36, 18
"""Months of ``history`` and of ``future``."""
YEAR = 12
SCHEMA = pa.schema(
    [
        ("series", pa.string()),
        ("month", pa.int64()),
        ("year_sin", pa.float32()),
        ("year_cos", pa.float32()),
        ("history", pa.list_(pa.float32(), PAST)),
        ("future", pa.list_(pa.float32(), AHEAD)),
    ]
)

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class MonthlySeries:
    """The source ``{generator: monthly_series, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"monthly_series(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("monthly_series", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the windows by month and series."""
        origins = -(-self.rows // SERIES)
        values = make_panel(self.seed, PAST + AHEAD + origins - 1)
        windows = sliding_window_view(values, PAST + AHEAD, axis=0)
        names = [f"series {number}" for number in range(1, SERIES + 1)]
        for origin in range(origins):
            month = np.full(SERIES, origin + PAST - 1)
            batch = window_batch(names, month, month % YEAR, windows[origin])
            kept = batch.select(list(columns)).slice(0, self.rows - origin * SERIES)
            yield from cut(kept, batch_rows)


def window_batch(
    names: Sequence[str],
    month: NDArray[np.int64],
    of_year: NDArray[np.int64],
    windows: Float32,
) -> pa.RecordBatch:
    """Returns windows in the columns of ``SCHEMA``.

    Args:
        names: of the series, (rows,).
        month: number of the last known month, by which rows are split, (rows,).
        of_year: that month in its year, 0 to 11, (rows,).
        windows: float32 (rows, PAST + AHEAD).
    """
    angle = 2 * np.pi * of_year / YEAR
    columns = [
        pa.array(names, pa.string()),
        pa.array(month, pa.int64()),
        pa.array(np.sin(angle).astype(np.float32)),
        pa.array(np.cos(angle).astype(np.float32)),
        _lists(windows[:, :PAST]),
        _lists(windows[:, PAST:]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def make_panel(seed: int, months: int) -> Float32:
    """Returns the values of all series, float32 (months, SERIES)."""
    random = random_stream(seed, 0)

    def of_series(median: float, deviation: float) -> Float64:
        return median * np.exp(deviation * random.standard_normal(SERIES))

    # How erratic a series is shows in all that is random in it.
    unrest = np.minimum(of_series(1.0, 1.35), 7.0)
    season, noise, shocks = (
        unrest**0.8 * of_series(0.05, 0.5),
        unrest * of_series(0.042, 0.5),
        unrest * of_series(0.03, 0.6),
    )
    profile = season * random.standard_normal((YEAR, SERIES))
    growth = 0.015 / YEAR + 0.004 * random.standard_normal(SERIES)
    growth = growth + np.cumsum(0.0004 * random.standard_normal((months, SERIES)), axis=0)
    shape = (months, SERIES)
    moves = shocks * np.where(random.random(shape) < 0.004, 7, 1) * random.standard_normal(shape)
    level = np.cumsum(0.02 * np.tanh(growth / 0.02) + moves, axis=0)
    # A walk would leave any bounds in the long run.
    level = np.tanh(level)
    odd = np.where(random.random(shape) < 0.01, 4, 1)
    wave = profile[np.arange(months) % YEAR] + noise * odd * random.standard_normal(shape)
    values: Float32 = (of_series(4_800, 0.35) * np.exp(level + wave)).astype(np.float32)
    return values


def _lists(values: Float32) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
