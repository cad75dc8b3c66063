"""The population stability index of two counts over the same bins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNT_FLOOR = 0.5
"""Rows; an empty bin would make the logarithm infinite."""


def psi(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Returns the sum over bins of (q - p) * ln(q / p), p and q being the shares.

    A count below 0.5 rows is taken as 0.5 rows.

    Args:
        reference: rows per bin, shape (bins,), not all zero.
        other: rows per bin of the other sample, not all zero.

    Source: Siddiqi 2006, "Credit Risk Scorecards", the system stability report.
    """
    p, q = (np.maximum(counts, COUNT_FLOOR) / counts.sum() for counts in (reference, other))
    return float(np.sum((q - p) * np.log(q / p)))


def psi_by_chance(bins: int, reference: int, other: int) -> float:
    """Returns the PSI that two samples of one distribution exceed once in a hundred times.

    Args:
        bins: of the index.
        reference: rows of one sample.
        other: rows of the other.

    Source: Yurdakul 2018, "Statistical properties of population stability index": the index is
    about (1 / n + 1 / m) times a chi-square of bins - 1 degrees of freedom; its quantile by Wilson
    and Hilferty 1931, "The distribution of chi-square".
    """
    freedom = bins - 1
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + 2.326 * math.sqrt(spread)) ** 3
    return quantile * (1 / reference + 1 / other)
