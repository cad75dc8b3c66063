"""The change of the Kolmogorov-Smirnov distance (KS) of two models on the same rows.

KS is the largest distance between the shares of positives and of negatives that are flagged. That
of nearly equal models changes by what happens near one threshold, and the difference of two maxima
tells little of it: a maximum over the sample's thresholds is too large, more so for the model with
fewer of them. INT8 scores that are rounded lose by this alone, and no resampling of the rows
undoes it (72 to 100 % covered instead of 95 %).

Here both models flag the same *number* of rows, so that nothing depends on the scale of the scores,
at all thresholds within ``REACH`` of the one where the mean of both distances is largest. The mean
over these thresholds of second minus first is a mean over rows, of the share of thresholds at which
a row is flagged by one model and not by the other. To first order it is the change of KS, since the
distance does not change with the threshold at its maximum. ``benchmarks/intervals.py`` measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.statistics.interval import Interval, satterthwaite, student_interval

REACH = 0.25
"""Of the thresholds, in rows, as a part of rows ** (2 / 3): the place of the maximum is not known
better (Kim and Pollard 1990, "Cube root asymptotics", Annals of Statistics 18(1)). Where scores are
tied it goes on to ``FEWEST`` thresholds, but not beyond rows ** (2 / 3)."""
ASIDE = (1, 2)
"""How far to both sides, in units of the reach, lie other windows over which the variance is
averaged: in one window of a small sample no row may be moved."""
FEWEST = 5
"""Thresholds in reach. With fewer the maximum is one of few values and not the top of a curve:
where scores are rounded so that 5 just fit, intervals cover 96 %, with twice the step 92 %."""

Scores = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class KSChange:
    """KS of two models on the same rows.

    Attributes:
        first: of the first scores; NaN without rows of both classes.
        second: of the second scores.
        nearby: mean of second minus first over the thresholds near the maximum; NaN where these
            are too few.
        variance: of ``nearby``; NaN with it, and with fewer than two rows of a class.
        freedom: degrees of freedom of the variance.
    """

    first: float
    second: float
    nearby: float
    variance: float
    freedom: float

    @property
    def difference(self) -> float:
        """Second minus first."""
        return self.second - self.first

    def interval(self, confidence: float) -> Interval:
        """Returns the two-sided interval of the change, which is that of ``nearby``.

        Its nearer end is moved to ``difference`` where that lies outside.
        """
        error = math.sqrt(self.variance)
        found = student_interval(self.nearby, error, confidence, self.freedom)
        low, high = min(found.low, self.difference), max(found.high, self.difference)
        return Interval(self.difference, low, high, error)


def ks_change(labels: NDArray[np.integer[Any]], first: Scores, second: Scores) -> KSChange:
    """Returns KS of both models and how sure their difference is.

    Args:
        labels: 0 or 1, shape (rows,).
        first: scores of the same rows, without NaN.
        second: scores of the other model.
    """
    positive = labels == 1
    positives = int(np.count_nonzero(positive))
    negatives = positive.size - positives
    if not positives or not negatives:
        return KSChange(*[math.nan] * 5)
    ranks, distances, largest, ends = [], [], [], []
    for scores, other in ((first, second), (second, first)):
        # Ties in the order of the other model: within one, nothing is known to have changed.
        order = np.argsort(scores + 1j * other)[::-1]
        ranked, hits = scores[order], np.cumsum(positive[order])
        last = np.append(ranked[1:] != ranked[:-1], True)
        distance = hits / positives - (np.arange(1, positive.size + 1) - hits) / negatives
        largest.append(float(np.abs(distance[last]).max()))
        distances.append(distance)
        ends.append(last)
        rank = np.empty(positive.size, np.uint32)
        rank[order] = np.arange(positive.size)
        ranks.append(rank)
    # Thresholds flag the rows up to one rank; those that divide no tie of either model.
    thresholds = np.flatnonzero(ends[0] & ends[1])
    both = (distances[0] + distances[1])[thresholds]
    place = int(np.abs(both).argmax())
    middle, sign = int(thresholds[place]), float(np.sign(both[place]))
    farthest = positive.size ** (2 / 3)
    apart = np.sort(np.abs(thresholds - middle)[max(place - FEWEST, 0) : place + FEWEST])
    reach = max(REACH * farthest, float(apart[:FEWEST][-1]))
    if apart.size < FEWEST or reach > farthest or min(positives, negatives) < 2:
        return KSChange(largest[0], largest[1], *[math.nan] * 3)
    windows = [
        thresholds[np.abs(thresholds - middle - step * reach) <= reach]
        for step in (0, *ASIDE, *(-step for step in ASIDE))
    ]
    # Of the other rows no threshold decides otherwise.
    far = (max(ASIDE) + 1) * reach
    near = (np.minimum(*ranks) <= middle + far) & (np.maximum(*ranks) >= middle - far)
    flags, places = positive[near], [rank[near] for rank in ranks]
    found = []
    for window in windows:
        if window.size:
            moved = _moved(places, window)
            found.append((_mean(moved[flags], positives), _mean(moved[~flags], negatives)))
    of_positives, of_negatives = (np.array(one) for one in zip(*found, strict=True))
    nearby = sign * float(of_positives[0, 0] - of_negatives[0, 0])
    parts = float(of_positives[:, 1].mean()), float(of_negatives[:, 1].mean())
    freedom = satterthwaite(parts, (positives, negatives))
    return KSChange(largest[0], largest[1], nearby, sum(parts), freedom)


def _moved(ranks: list[Integers], thresholds: Integers) -> NDArray[np.float64]:
    """Returns the share of thresholds that flag a row by its second rank less by its first."""
    below = [np.searchsorted(thresholds, rank) for rank in ranks]
    return np.asarray((below[0] - below[1]) / thresholds.size)


def _mean(values: NDArray[np.float64], rows: int) -> tuple[float, float]:
    """Returns the mean of the values and of as many zeros as make ``rows``, and its variance."""
    mean = float(values.sum()) / rows
    squares = float(np.square(values).sum()) - rows * mean**2
    return mean, max(squares, 0.0) / (rows - 1) / rows
