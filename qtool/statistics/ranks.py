"""Whether two orders agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import spearmanr


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Returns Spearman's correlation; NaN of fewer than 3 pairs, or where all values are equal.

    Source: SciPy ``spearmanr``.
    """
    pair = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if any(len(values) < 3 or values.min() == values.max() for values in pair):
        return float("nan")
    return float(spearmanr(*pair).statistic)
