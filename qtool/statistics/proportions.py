"""Shares of rows: exact bounds, McNemar's test, the difference of two paired shares."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import beta, binomtest, norm

from qtool.statistics.interval import Interval

TOLERANCE = 1e-12
"""Of the ends of a score interval."""


def share_upper(hits: float, rows: float, confidence: float) -> float:
    """Returns the exact one-sided upper confidence bound of a share.

    Args:
        hits: rows that count; a fraction interpolates between the exact bounds.
        rows: at least 1, and at least ``hits``.
        confidence: one-sided, in (0, 1).

    Source: Clopper and Pearson 1934, Biometrika 26(4): the quantile ``confidence`` of
    Beta(hits + 1, rows - hits); with 0 hits about 3 / rows at 95 %.
    """
    return 1.0 if hits == rows else float(beta.ppf(confidence, hits + 1, rows - hits))


def share_lower(hits: float, rows: float, confidence: float) -> float:
    """Returns the exact one-sided lower confidence bound of a share, as ``share_upper``."""
    return 1 - share_upper(rows - hits, rows, confidence)


def share_interval(hits: int, rows: int, confidence: float) -> Interval:
    """Returns a share with its exact two-sided interval; it covers at least ``confidence``."""
    share, one_sided = hits / rows, (1 + confidence) / 2
    return Interval(
        share,
        share_lower(hits, rows, one_sided),
        share_upper(hits, rows, one_sided),
        math.sqrt(share * (1 - share) / rows),
    )


def mcnemar(first_only: int, second_only: int) -> float:
    """Returns the exact two-sided p-value that both are equally often the only one to be right.

    Args:
        first_only: rows that only the first decides correctly.
        second_only: rows that only the second decides correctly.

    Source: McNemar 1947, Psychometrika 12(2), in its exact form: SciPy ``binomtest``.
    """
    rows = first_only + second_only
    return float(binomtest(first_only, rows).pvalue) if rows else 1.0


def paired_shares(first_only: int, second_only: int, rows: int, confidence: float) -> Interval:
    """Returns the second share minus the first, of the same rows, with its score interval.

    The ends are the differences d at which the score test has a p-value of 1 - ``confidence``. With
    no differing row they are ± z² / (rows + z²) and not 0, as a resampled interval would be.

    Args:
        first_only: rows that count for the first and not for the second.
        second_only: the reverse.
        rows: all, at least 1.
        confidence: two-sided, in [0, 1).

    Source: Tango 1998, Statistics in Medicine 17(8), equations 3 to 6.
    """
    z = float(norm.ppf((1 + confidence) / 2))
    changed, surplus = first_only + second_only, second_only - first_only
    change = surplus / rows

    def excess(difference: float, errors: float) -> float:
        """Rows by which the data exceed ``difference`` by more than ``errors`` standard errors."""
        # The most likely share of ``first_only`` rows under the difference, a quadratic's root.
        b = changed + surplus * difference - 2 * rows * difference
        c = 8 * rows * first_only * difference * (1 - difference)
        share = (b + math.sqrt(max(b * b + c, 0.0))) / (4 * rows)
        variance = max(2 * share + difference - difference**2, 0.0)
        return surplus - rows * difference - errors * math.sqrt(rows * variance)

    def end(side: int) -> float:
        """The end on one side; the estimate itself may be a second root, which is passed by."""
        start = change + side * TOLERANCE
        if z == 0 or abs(start) > 1:
            return change
        return float(brentq(excess, start, side, args=(-side * z,), xtol=TOLERANCE))

    return Interval(change, end(-1), end(1), math.sqrt(changed - surplus * change) / rows)
