"""Daily withdrawals at cash machines as windows to forecast from: seeded, of any size.

**What a row is.** One machine on one day: ``history`` holds the amounts of the last 112 days,
``future`` those of the next 56, the horizon of the NN5 competition (Crone 2008), whose series were
the model; ``year_sin`` and ``year_cos`` place the day in the year. ``sample_models.prepare
cash_flow`` makes the same columns of the NN5 file. Rows are in the order of time, all ``MACHINES``
of a day after each other, ``STRIDE`` days apart. No value is one of NN5.

**How it is made.** A machine has a mean, a weekly profile and a part in what all of them share:
more before Christmas and less after, more when wages are paid. Its level drifts and sometimes moves
for good. Days are noisy, a few are missed. The same rows and seed give the same data;
more rows are more days, of another panel. While rows are read the panel is in memory, about 100
bytes for each of them.

Statistics, in brackets those of NN5 (``tests/data/test_cash_machines.py`` holds the claims): mean
amount 18 (18), machines from 10 to 36 (8 to 30), Thursday 1.5 times the mean and Saturday 0.7 (1.5,
0.7), correlation with the same weekday a week before 0.6 (0.6), 0.5 % zeros (0.5 %). The last week
again as the forecast of 56 days has a sMAPE of 32 % (31 %), and the mean of the last eight weeks'
same weekdays 24 % (23 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

MACHINES = 111
PAST, AHEAD = 112, 56
"""Days of ``history`` and of ``future``; whole weeks."""
STRIDE = 4
"""Days from one window to the next; it shares no factor with a week, so that windows end on all
weekdays."""
START = np.datetime64("1996-03-18", "D")
SCHEMA = pa.schema(
    [
        ("machine", pa.string()),
        ("date", pa.date32()),
        ("month", pa.string()),
        ("year_sin", pa.float32()),
        ("year_cos", pa.float32()),
        ("history", pa.list_(pa.float32(), PAST)),
        ("future", pa.list_(pa.float32(), AHEAD)),
    ]
)
ORIGINS = 32
"""Days made into rows at a time."""

Float32 = NDArray[np.float32]
Days = NDArray[np.datetime64]


@dataclass(frozen=True)
class CashMachines:
    """The source ``{generator: cash_machines, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"cash_machines(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("cash_machines", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the windows by date and machine."""
        origins = -(-self.rows // MACHINES)
        days = PAST + AHEAD + (origins - 1) * STRIDE
        amounts = make_panel(self.seed, days)
        names = [f"machine {number}" for number in range(1, MACHINES + 1)]
        left = self.rows
        for batch in window_batches(names, START + np.arange(days), amounts, STRIDE):
            yield from cut(batch.select(list(columns)).slice(0, left), batch_rows)
            left -= batch.num_rows


def window_batches(
    names: Sequence[str], days: Days, amounts: Float32, stride: int
) -> Iterator[pa.RecordBatch]:
    """Yields the windows of a panel, by date and machine, in the columns of ``SCHEMA``.

    Args:
        names: of the machines.
        days: consecutive, datetime64[D].
        amounts: float32 (days, machines), without gaps; the last window ends with the last day.
        stride: days from one window to the next.
    """
    last = len(days) - AHEAD - 1
    origins = np.arange(PAST - 1 + (last - PAST + 1) % stride, last + 1, stride)
    windows = sliding_window_view(amounts, PAST + AHEAD, axis=0)
    for first in range(0, len(origins), ORIGINS):
        chosen = origins[first : first + ORIGINS]
        values = windows[chosen - PAST + 1].reshape(-1, PAST + AHEAD)
        date = np.repeat(days[chosen], len(names))
        month = date.astype("datetime64[M]")
        angle = 2 * np.pi * _day_of_year(date) / 365.25
        columns: dict[str, Any] = {
            "machine": np.tile(np.array(names), len(chosen)),
            "date": date,
            "month": np.array([f"{number:02}" for number in range(1, 13)])[month.astype(int) % 12],
            "year_sin": np.sin(angle).astype(np.float32),
            "year_cos": np.cos(angle).astype(np.float32),
            "history": _lists(values[:, :PAST]),
            "future": _lists(values[:, PAST:]),
        }
        yield pa.RecordBatch.from_arrays(
            [pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA
        )


def make_panel(seed: int, days: int) -> Float32:
    """Returns the amounts of all machines, float32 (days, MACHINES)."""
    random = random_stream(seed, 0)
    date = START + np.arange(days)
    mean = 18.0 * np.exp(0.28 * random.standard_normal(MACHINES))
    # Monday to Sunday; the series start on a Monday.
    profile = np.array([0.78, 0.82, 1.06, 1.5, 1.32, 0.68, 0.84])
    weekly = profile[:, None] * np.exp(0.12 * random.standard_normal((7, MACHINES)))
    share = 1 + 0.4 * random.standard_normal(MACHINES)
    drift = 0.012 * random.standard_normal((days, MACHINES))
    moved = random.random((days, MACHINES)) < 0.0015
    level = np.cumsum(drift + moved * 0.3 * random.standard_normal((days, MACHINES)), axis=0)
    # A walk would leave any bounds in the long run.
    level = 0.35 * np.tanh(level / 0.35)
    log_amount = (
        np.log(mean * weekly[np.arange(days) % 7])
        + level
        + _shared(date)[:, None] * share
        + 0.24 * random.standard_normal((days, MACHINES))
    )
    missed = random.random((days, MACHINES))
    part = np.where(missed < 0.005, 0.0, np.where(missed < 0.03, missed / 0.03, 1.0))
    amounts: Float32 = (np.exp(log_amount) * part).astype(np.float32)
    return amounts


def _shared(date: Days) -> NDArray[np.float64]:
    """Returns what all machines have in common on each day, in logarithms."""
    day = _day_of_year(date)
    of_month = (date - date.astype("datetime64[M]")).astype(int)
    christmas = 0.35 * np.exp(-(((day - 354) / 5) ** 2))
    after = -0.25 * np.exp(-day / 18)
    paid = 0.07 * np.isin(of_month, [24, 25, 26, 27, 28])
    summer = 0.04 * np.sin(2 * np.pi * day / 365.25)
    shared: NDArray[np.float64] = christmas + after + paid + summer
    return shared


def _day_of_year(date: Days) -> NDArray[np.int64]:
    day: NDArray[np.int64] = (date - date.astype("datetime64[Y]")).astype(np.int64)
    return day


def _lists(values: Float32) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
