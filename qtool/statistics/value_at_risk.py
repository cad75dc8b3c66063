"""Tests of value at risk: do losses exceed it as often as they should, and independently?

A series has 1 (or True) for every period whose loss exceeded the VaR. The statistics are
likelihood ratios with 0 * log 0 = 0, so that series without exceedances, or without two in a row,
have their exact value and not NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import chi2

Exceedances = NDArray[np.bool_] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio test.

    Attributes:
        statistic: -2 log of the ratio, never negative.
        p_value: of chi-square with the test's degrees of freedom.
    """

    statistic: float
    p_value: float


def kupiec(exceedances: Exceedances, expected: float) -> LikelihoodRatio:
    """Tests that the share of exceedances is ``expected``: unconditional coverage.

    Args:
        exceedances: 0 or 1, shape (periods,), at least one.
        expected: 1 - level of the VaR, in (0, 1).

    Source: Kupiec 1995, Journal of Derivatives 3(2), equation 4; chi-square(1).
    """
    periods = exceedances.size
    hits = int(np.count_nonzero(exceedances))
    return _ratio(
        _log_likelihood(hits, periods, hits / periods) - _log_likelihood(hits, periods, expected), 1
    )


def christoffersen_independence(exceedances: Exceedances) -> LikelihoodRatio:
    """Tests that an exceedance is as likely after an exceedance as after none.

    A series without exceedances, or with nothing else, says nothing: statistic 0, p-value 1.

    Args:
        exceedances: 0 or 1, shape (periods,), at least two, in their order.

    Source: Christoffersen 1998, International Economic Review 39(4), section 3.2: a first-order
    Markov chain against independence, over the transitions; chi-square(1).
    """
    before, after = exceedances[:-1] == 1, exceedances[1:] == 1
    gained = -_best(after)
    for state in (before, ~before):
        gained += _best(after[state])
    return _ratio(gained, 1)


def christoffersen(exceedances: Exceedances, expected: float) -> LikelihoodRatio:
    """Tests both at once: conditional coverage.

    Args:
        exceedances: 0 or 1, shape (periods,), at least two, in their order.
        expected: 1 - level of the VaR, in (0, 1).

    Source: Christoffersen 1998, section 3.3: the sum of the two statistics; chi-square(2). As is
    usual, coverage counts the first period too, which has no transition.
    """
    statistic = (
        kupiec(exceedances, expected).statistic + christoffersen_independence(exceedances).statistic
    )
    return LikelihoodRatio(statistic, float(chi2.sf(statistic, 2)))


def _best(series: NDArray[np.bool_]) -> float:
    """Returns the log-likelihood of a series at its own share; 0 for an empty one."""
    hits, periods = int(np.count_nonzero(series)), series.size
    return _log_likelihood(hits, periods, hits / periods) if periods else 0.0


def _log_likelihood(hits: int, periods: int, share: float) -> float:
    return float(xlogy(hits, share) + xlogy(periods - hits, 1 - share))


def _ratio(gained: float, freedom: int) -> LikelihoodRatio:
    """Returns the test; rounding may leave a gain of 0 slightly negative."""
    statistic = 2 * max(gained, 0.0)
    return LikelihoodRatio(statistic, float(chi2.sf(statistic, freedom)))
