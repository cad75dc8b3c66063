"""Names of dates and times, so that rows can be told apart by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtool.data.judging_columns import MISSING

MOST_PERIODS = 12
"""More are no groups that people compare; the months of a year are."""
Times = NDArray[np.datetime64]
Names = NDArray[np.str_]


def period_names(times: Times) -> NDArray[np.object_]:
    """Returns the time, or the period of the calendar, of every row, str (rows,) as objects.

    The times themselves in ISO 8601 where at most ``MOST_PERIODS`` differ; else their hours
    (2026-01-02T10), days, months (2026-01), quarters (2026-Q1), years or decades (2020s): the
    finest of which there are at most so many, or decades. Names in the order of texts are in the
    order of time. ``MISSING`` where there is no time. Times with a zone are told in UTC.

    Args:
        times: datetime64 of any unit (rows,), NaT where missing.
    """
    present = ~np.isnat(times)
    different, places = np.unique(times[present], return_inverse=True)
    for name in (_itself, *(_cut(unit) for unit in "hDM"), _quarter, _cut("Y"), _decade):
        names = name(different)
        if len(set(names.tolist())) <= MOST_PERIODS:
            break
    found = np.full(len(times), MISSING, object)
    found[present] = names.astype(object)[places]
    return found


def _itself(times: Times) -> Names:
    return np.datetime_as_string(times, unit="auto")


def _cut(unit: str) -> Callable[[Times], Names]:
    return lambda times: np.datetime_as_string(times.astype(f"datetime64[{unit}]"))


def _quarter(times: Times) -> Names:
    months = times.astype("datetime64[M]").astype(np.int64)
    return np.array([f"{1970 + month // 12}-Q{month % 12 // 3 + 1}" for month in months], str)


def _decade(times: Times) -> Names:
    years = times.astype("datetime64[Y]").astype(np.int64)
    return np.array([f"{(1970 + year) // 10}0s" for year in years], str)
