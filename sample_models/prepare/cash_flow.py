"""NN5: the file of the Monash forecasting repository, or one column per machine beside ``date``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators import cash_machines
from sample_models.prepare.tables import only, read_table

WEEK = 7
STRIDE = cash_machines.STRIDE


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns windows of daily withdrawals in the columns of ``cash_machines``.

    A missing day gets the amount of the same weekday a week before; in the first week, after.

    Source: NN5 competition (Crone 2008); Monash forecasting repository (Godahewa et al. 2021, arXiv
    2105.06643).
    """
    file = only(files)
    if file.suffix == ".tsf":
        names, days, amounts = _monash(file)
    else:
        table = read_table(file)
        names = [name for name in table.column_names if name != "date"]
        days = table["date"].to_numpy().astype("datetime64[D]")
        amounts = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float64)
    whole = without_gaps(amounts).astype(np.float32)
    return pa.Table.from_batches(cash_machines.window_batches(names, days, whole, STRIDE))


def without_gaps(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the amounts (days, machines) with each NaN replaced as ``prepare`` says."""
    filled = amounts.copy()
    first = filled[:WEEK]
    first[:] = np.where(np.isnan(first), filled[WEEK : 2 * WEEK], first)
    for day in range(WEEK, len(filled)):
        filled[day] = np.where(np.isnan(filled[day]), filled[day - WEEK], filled[day])
    return filled


def _monash(file: Path) -> tuple[list[str], NDArray[np.datetime64], NDArray[np.float64]]:
    """Returns names, days and amounts (days, series) of a ``.tsf`` file whose series are equal."""
    lines = file.read_text(encoding="utf-8").split("@data", 1)[1].split()
    # NAME:1996-03-18 00-00-00:1.5,?,2.5 is two words because of the space in the time.
    names, starts = zip(*(line.split(":", 1) for line in lines[::2]), strict=True)
    series = [line.split(":", 1)[1].split(",") for line in lines[1::2]]
    values = [[np.nan if text == "?" else float(text) for text in one] for one in series]
    amounts = np.array(values).T
    return list(names), np.datetime64(starts[0], "D") + np.arange(len(amounts)), amounts
