"""Structural: FRED-QD, quarterly, one column per series, as CSV or as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.data.generators.macro_quarters import LAGS, MEAN, SCHEMA, UNIT, VARIABLES, quarter_batch
from sample_models.prepare.tables import only, read_table

SERIES = {
    "oil": "OILPRICEx",
    "commodities": "PPIACO",
    "housing": "HOUST",
    "consumption": "PCECC96",
    "investment": "FPIx",
    "output": "GDPC1",
    "employment": "PAYEMS",
    "unemployment": "UNRATE",
    "wages": "AHETPIx",
    "inflation": "GDPCTPI",
    "policy": "FEDFUNDS",
    "ten_year": "GS10",
    "spread": "BAA10YM",
    "loans": "BUSLOANSx",
    "money": "M2REAL",
}
RATES = ("unemployment", "policy", "ten_year", "spread")
"""In points; the others in percent, as differences of logarithms."""
PANDEMIC = np.datetime64("2020-01-01"), np.datetime64("2021-01-01")


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the quarters in which all series are known, in the columns of ``macro_quarters``.

    Quarters that are of 2020, or have one of it among their lags, are left out, as Schorfheide and
    Song (2021, NBER w29535) advise: employment moved by twenty deviations.

    Source: McCracken and Ng 2020, FRED-QD, NBER w26872.
    """
    table = read_table(only(files))
    days = table["date"].to_numpy().astype("datetime64[D]")
    changes = []
    for name in VARIABLES:
        level = table[SERIES[name]].to_numpy().astype(np.float64)
        level = level if name in RATES else 100 * np.log(level)
        changes.append(np.diff(level))
    panel = (np.stack(changes, axis=1) - MEAN) / UNIT
    days = days[1:]
    pandemic = (days >= PANDEMIC[0]) & (days < PANDEMIC[1])
    panel[pandemic] = np.nan
    batch = quarter_batch(["United States"], days[LAGS:], panel[:, None].astype(np.float32))
    usable = np.isfinite(panel).all(axis=1)
    whole = np.all([usable[LAGS - lag : len(usable) - lag] for lag in range(LAGS + 1)], axis=0)
    return pa.Table.from_batches([batch], SCHEMA).filter(pa.array(whole))
