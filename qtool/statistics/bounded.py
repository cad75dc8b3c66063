"""Intervals that stay honest where almost nothing differs: shares of few kinds, and bounded means.

When no decision of a thousand rows flips, every resample of the ordinary bootstrap is alike, and
its interval is the single value 0. Here each draw weighs the rows at random (Bayesian bootstrap,
Rubin 1981, Annals of Statistics 9(1)) together with one row more, of the worst kind that could have
been seen: for a lower bound the smallest possible value, for an upper bound the largest. For values
of 0 and 1 the bounds are Clopper and Pearson's; for other bounded values they are Gaffke's (2005,
"Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable", Mathematical Methods of Statistics 14(4)), and approach those of the bootstrap as rows
grow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qtool.statistics.interval import Interval

DRAWS = 10_000


def drawn_shares(
    counts: NDArray[np.float64], worst: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Returns shares of the kinds that could have led to the counts.

    Rows of one kind have their weights drawn together: a sum of exponentials is a gamma.

    Args:
        counts: independent rows of each kind, (kinds,).
        worst: the kind that is counted once more.
        generator: of the draws.

    Returns:
        float64 (``DRAWS``, kinds), of sum 1.
    """
    shape = counts.copy()
    shape[worst] += 1
    weights = generator.standard_gamma(shape, (DRAWS, len(shape)))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def mean_interval(
    values: NDArray[np.float64], confidence: float, seed: int, rows: float | None = None
) -> Interval:
    """Returns the mean of values in [0, 1] with its two-sided confidence interval.

    Args:
        values: float64, one of each row; without any the interval is [0, 1].
        confidence: of the interval.
        seed: of the draws.
        rows: how many independent ones say as much; None: each stands by itself.
    """
    rows = len(values) if rows is None else rows
    generator = np.random.default_rng(seed)
    tail = (1 - confidence) / 2
    kinds, counts = np.unique(np.concatenate([[0.0, 1.0], values]), return_counts=True)
    counts[[0, -1]] -= 1
    independent = counts.astype(np.float64) * (rows / max(len(values), 1))
    low = drawn_shares(independent, 0, generator) @ kinds
    high = drawn_shares(independent, len(kinds) - 1, generator) @ kinds
    ends = float(np.quantile(low, tail)), float(np.quantile(high, 1 - tail))
    if not values.size:
        return Interval(math.nan, *ends, math.nan)
    return Interval(float(values.mean()), *ends, float(values.std() / math.sqrt(rows)))
