"""M3, monthly series: the file of the Monash forecasting repository, or two tables.

The tables (Parquet or CSV) are those of the series, with ``sn``, ``period`` and ``start`` (a year
and its part), and of their values in order, with ``sn`` and ``value``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qtool.data.generators.monthly_series import AHEAD, PAST, YEAR, window_batch
from sample_models.prepare.tables import read_table

SHORTEST = PAST + AHEAD
"""Months of a series: those of one window."""

Series = tuple[str, int, NDArray[np.float32]]
"""Name, month of the year of the first value (0 to 11), and values."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns windows of monthly values in the columns of ``monthly_series``.

    ``month`` counts back from the end: the windows of month 0 are those that the competition
    scored, and those up to -18 do not see what they forecast. Rows are in its order.

    Source: Makridakis and Hibon 2000; Monash forecasting repository (Godahewa et al. 2021, arXiv
    2105.06643).
    """
    series = list(_monash(files[0]) if files[0].suffix == ".tsf" else _tables(files))
    parts = []
    for name, first, values in series:
        if len(values) < SHORTEST:
            continue
        windows = sliding_window_view(values, SHORTEST)
        # Month 0 is the last, and all windows between it and the last for training see its future.
        month = np.arange(len(windows)) - (len(windows) - 1)
        kept = (month == 0) | (month <= -AHEAD)
        of_year = (first + PAST - 1 + np.arange(len(windows))) % YEAR
        parts.append(
            window_batch([name] * int(kept.sum()), month[kept], of_year[kept], windows[kept])
        )
    return pa.Table.from_batches(parts).sort_by([("month", "ascending"), ("series", "ascending")])


def _tables(files: Sequence[Path]) -> Iterator[Series]:
    described, valued = (read_table(file) for file in files)
    if "value" in described.column_names:
        described, valued = valued, described
    values: dict[str, list[float]] = {}
    for name, value in zip(valued["sn"].to_pylist(), valued["value"].to_pylist(), strict=True):
        values.setdefault(name, []).append(value)
    for row in described.select(["sn", "period", "start"]).to_pylist():
        if row["period"] == "MONTHLY":
            first = round(row["start"] % 1 * YEAR) % YEAR
            yield row["sn"], first, np.array(values[row["sn"]], np.float32)


def _monash(file: Path) -> Iterator[Series]:
    lines = file.read_text(encoding="utf-8").split("@data", 1)[1].split()
    # NAME:1990-01-31 00-00-00:1.5,2.5 is two words because of the space in the time.
    for head, tail in zip(lines[::2], lines[1::2], strict=True):
        name, start = head.split(":", 1)
        numbers = tail.split(":", 1)[1].split(",")
        yield name, int(start.split("-")[1]) - 1, np.array(numbers, np.float32)
