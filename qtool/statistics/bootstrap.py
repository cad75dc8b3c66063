"""Paired bootstrap: how often each row is drawn, and the interval of what comes of it.

Both models see the same draws, so what they share cancels. ``bootstrap_interval`` reads percentiles
of the drawn differences. The basic interval (2 * estimate - percentile) and bias-corrected ones
assume that draws are shifted against the sample as the sample is against the truth, which is not so
for what jumps (KS of nearly equal models: 72 to 90 % covered instead of 95 %). The pairs of rows
that change their order make rank metrics of nearly equal models vary more between draws than
between samples (see ``delong.py``), so percentiles are too wide rather than too narrow, which
``pairs_once_interval`` corrects; but with few positives one side may be too short.
``bootstrap_bounds``, for verdicts, take the outer of percentile and basic ends.
``benchmarks/intervals.py`` has the figures. AUC, KS, accuracy and other shares of rows have better
intervals without draws: ``delong.py``, ``ks.py``, ``proportions.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import t as student

from qtool.statistics.interval import Interval, student_interval, two_sided

SUBSET_UNITS = 200_000
"""Units above which the spread is measured on a subset."""

Weights = NDArray[np.float64]
Statistic = Callable[[Weights | None], float]
Values = NDArray[np.float64]
Codes = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Draws:
    """Which rows are drawn together, and how often.

    Attributes:
        rows: how many there are.
        strata: shape (rows,): each keeps its size. None: one stratum.
        clusters: shape (rows,): rows with equal values are drawn together, and a stratum keeps its
            number of clusters; a cluster with rows of several strata belongs to the largest of
            them. None: every row by itself.
        block: that many consecutive rows are drawn together, from any row on, the first row
            following the last; for rows in the order of time, without strata and clusters.
        resamples: how many draws.
        seed: gives the same draws again.

    Raises:
        ValueError: blocks together with strata or clusters.

    Source: Davison and Hinkley 1997, "Bootstrap Methods and their Application", chapters 2 and 3;
    blocks: Politis and Romano 1992, "A circular block-resampling procedure for stationary data".
    """

    rows: int
    strata: Codes | None = None
    clusters: Codes | None = None
    block: int = 1
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.block > 1 and not (self.strata is None and self.clusters is None):
            raise ValueError("blocks of consecutive rows have no strata and no clusters")

    def weights(self) -> Iterator[Weights]:
        """Yields, for every resample, how often each row is drawn, float64 (rows,)."""
        random = np.random.default_rng(self.seed)
        if self.block > 1:
            for _ in range(self.resamples):
                yield _blocks(random, self.rows, self.block)
            return
        codes, strata = self._units()
        counts = np.empty(self.rows if codes is None else int(codes.max()) + 1)
        for _ in range(self.resamples):
            for units in strata:
                drawn = random.integers(0, units.size, units.size)
                counts[units] = np.bincount(drawn, minlength=units.size)
            yield counts.copy() if codes is None else counts[codes]

    def smallest(self) -> int:
        """Returns the number of rows, clusters or blocks of the smallest stratum."""
        if self.block > 1:
            return -(-self.rows // self.block)
        return min(units.size for units in self._units()[1])

    def _units(self) -> tuple[Codes | None, list[Codes]]:
        """Returns the cluster of every row, None for itself, and the units of each stratum."""
        codes, strata = None, self.strata
        if self.clusters is not None:
            codes = np.unique(self.clusters, return_inverse=True)[1].reshape(-1)
            if strata is not None:
                of_clusters = np.full(int(codes.max()) + 1, strata.min())
                np.maximum.at(of_clusters, codes, strata)
                strata = of_clusters
        units = self.rows if codes is None else int(codes.max()) + 1
        if strata is None:
            return codes, [np.arange(units)]
        order = np.argsort(strata, kind="stable")
        return codes, np.split(order, np.flatnonzero(np.diff(strata[order])) + 1)


def _blocks(random: np.random.Generator, rows: int, block: int) -> Weights:
    """Returns one draw of circular blocks; the last one is cut, so that ``rows`` are drawn."""
    count = -(-rows // block)
    starts = random.integers(0, rows, count)
    ends = starts + block
    ends[-1] -= count * block - rows
    steps = np.bincount(starts, minlength=2 * rows + 1).astype(np.float64)
    steps -= np.bincount(ends, minlength=2 * rows + 1)
    drawn = np.cumsum(steps[:-1])
    return drawn[:rows] + drawn[rows:]


def paired_bootstrap(
    statistics: Mapping[str, tuple[Statistic, Statistic]], draws: Draws
) -> dict[str, Values]:
    """Returns second minus first of every pair, shape (resamples,), all on the same draws.

    A statistic that is not defined on a draw returns NaN, and so does its difference.
    """
    differences = {name: np.empty(draws.resamples) for name in statistics}
    for position, weights in enumerate(draws.weights()):
        for name, (first, second) in statistics.items():
            differences[name][position] = second(weights) - first(weights)
    return differences


def bootstrap_interval(
    estimate: float,
    differences: Values,
    confidence: float,
    *,
    units: int,
    subset_estimate: float | None = None,
    scale: float = 1.0,
) -> Interval:
    """Returns the two-sided interval of a difference from its bootstrap.

    The percentiles are widened for few units, as Student's t is against the normal distribution. A
    difference that was not defined counts as infinitely low and as infinitely high: an end that
    depends on it is infinite.

    Args:
        estimate: the difference on all rows.
        differences: on every draw, NaN where it is not defined, shape (resamples,).
        confidence: two-sided, in [0, 1).
        units: that the difference depends on: of two classes ``Draws.smallest``, of many classes
            all rows or clusters. With fewer than two there is no interval: NaN.
        subset_estimate: the difference on the rows of the draws; None: they are all rows.
        scale: of ``subset``.

    Source: percentiles: Efron 1979, Annals of Statistics 7(1); widened: Hesterberg 2015, The
    American Statistician 69(4), section 5.2.
    """
    if units < 2:
        return Interval(estimate, math.nan, math.nan, math.nan)
    quantile = student.ppf((1 + confidence) / 2, units - 1) * math.sqrt(units / (units - 1))
    defined = ~np.isnan(differences)
    moved = estimate + scale * (
        differences - (estimate if subset_estimate is None else subset_estimate)
    )
    low = np.quantile(np.where(defined, moved, -np.inf), float(ndtr(-quantile)), method="lower")
    high = np.quantile(np.where(defined, moved, np.inf), float(ndtr(quantile)), method="higher")
    error = float(moved[defined].std(ddof=1)) if defined.sum() > 1 else math.nan
    return Interval(estimate, float(low), float(high), error)


def bootstrap_bounds(
    estimate: float,
    differences: Values,
    confidence: float,
    *,
    units: int,
    subset_estimate: float | None = None,
    scale: float = 1.0,
) -> Interval:
    """Returns the one-sided bounds of a difference for a verdict.

    They are the outer ones of ``bootstrap_interval`` and of its mirror image around the estimate.

    Args:
        estimate: as there, and so are all but the next.
        differences: on every draw.
        confidence: one-sided, of each bound, in [0.5, 1).
        units: that the difference depends on.
        subset_estimate: the difference on the rows of the draws.
        scale: of ``subset``.
    """
    found = bootstrap_interval(
        estimate,
        differences,
        two_sided(confidence),
        units=units,
        subset_estimate=subset_estimate,
        scale=scale,
    )
    low = min(found.low, 2 * estimate - found.high)
    high = max(found.high, 2 * estimate - found.low)
    return Interval(estimate, low, high, found.error)


def pairs_once_interval(
    estimate: float,
    differences: Values,
    influence: Values,
    strata: Codes,
    confidence: float,
    scale: float = 1.0,
) -> Interval:
    """Returns the two-sided interval of a difference that consists of pairs of rows.

    The change of a rank metric of two nearly equal models comes from the pairs that change their
    order. The part of its variance that belongs to single pairs is counted twice by the influence
    of the rows, and three times by draws of the rows; twice the first minus the second has it once.

    Args:
        estimate: the difference on all rows.
        differences: on every draw, shape (resamples,).
        influence: derivative of the difference by the weight of each row, shape (rows,).
        strata: of the draws, shape (rows,), each of at least two rows.
        confidence: two-sided, in [0, 1).
        scale: of ``subset``.

    Source: twice: Efron and Stein 1981, "The jackknife estimate of variance", Annals of Statistics
    9(3); Student's t with the degrees of freedom that the fourth powers of the influence give the
    sum of its squares, so that few rows that pull widen it (Satterthwaite 1946).
    """
    pulls = influence.copy()
    by_rows = 0.0
    for stratum in np.unique(strata):
        inside = strata == stratum
        pulls[inside] -= pulls[inside].mean()
        rows = np.count_nonzero(inside)
        by_rows += float(np.square(pulls[inside]).sum()) * rows / (rows - 1)
    by_draws = float(differences.var(ddof=1))
    # The difference of two estimates may fall below what single pairs alone explain.
    variance = max(2 * by_rows - by_draws, by_draws - by_rows)
    squares = np.square(pulls)
    fourth = float(np.square(squares).sum())
    freedom = 2 * float(squares.sum()) ** 2 / fourth if fourth else math.inf
    return student_interval(estimate, scale * math.sqrt(variance), confidence, freedom)


def subset(draws: Draws, units: int = SUBSET_UNITS) -> tuple[NDArray[np.int64] | None, float]:
    """Returns random rows on which the spread of very many rows is measured, and the scale.

    Of every stratum the same share of its rows or clusters is chosen, at least two; of blocks the
    same share of those that start at a multiple of their length.

    Args:
        draws: of all rows.
        units: rows, clusters or rows in blocks that are kept, about.

    Returns:
        Row numbers, increasing, None where there are not more than ``units``; what differences from
        the subset's own estimate are multiplied by, in (0, 1].

    Source: Politis, Romano, Wolf 1999, "Subsampling": without replacement, errors of m units times
    sqrt(m / n) are those of n units.
    """
    random = np.random.default_rng((draws.seed, 1))
    if draws.block > 1:
        codes: Codes | None = np.arange(draws.rows) // draws.block
        strata: list[Codes] = [np.arange(-(-draws.rows // draws.block))]
        units = max(units // draws.block, 2)
    else:
        codes, strata = draws._units()
    total = sum(stratum.size for stratum in strata)
    if total <= units:
        return None, 1.0
    kept = np.zeros(total, bool)
    for stratum in strata:
        size = max(round(stratum.size * units / total), min(2, stratum.size))
        kept[random.choice(stratum, size, replace=False, shuffle=False)] = True
    rows = np.flatnonzero(kept if codes is None else kept[codes])
    return rows, math.sqrt(kept.sum() / total)
