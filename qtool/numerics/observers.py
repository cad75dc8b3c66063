"""Observers: from the statistics of an activation to the range that its codes cover.

Each observer is a function ``(statistics, spec) -> (low, high)`` with float32 arrays of shape
(columns,); the dict at the end is the list of them. All ranges contain zero and lie inside the
exact minimum and maximum. Clipping points are edges of histogram bins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qtool.config.quantization import Observer, PercentileObserver
from qtool.numerics.affine import QuantSpec
from qtool.numerics.divergence import least_divergence
from qtool.numerics.histogram import ZERO_BIN
from qtool.numerics.tensor_statistics import TensorStatistics

Range = tuple[NDArray[np.float32], NDArray[np.float32]]
Observe = Callable[[TensorStatistics, QuantSpec], Range]
Floats = NDArray[np.float64]

CLIPPING_POINTS = 128
"""Most ends per side that the MSE observer tries."""


def min_max(statistics: TensorStatistics, spec: QuantSpec) -> Range:
    """Returns the exact minimum and maximum."""
    del spec
    histogram = statistics.histogram
    return np.minimum(histogram.low, 0), np.maximum(histogram.high, 0)


def moving_average(statistics: TensorStatistics, spec: QuantSpec) -> Range:
    """Returns the mean minimum and the mean maximum over blocks of rows.

    Every block counts alike, so that neither batch size nor order of shards matter. This differs
    from torch's MovingAverageMinMaxObserver, which weights batch i of n by 0.01 * 0.99**(n - i):
    there the last batches decide, and a batch of one row counts as much as one of a thousand.
    """
    ends = []
    for extremes in (statistics.block_low, statistics.block_high):
        there = np.isfinite(extremes)
        total = np.where(there, extremes, 0).sum(axis=1, dtype=np.float64)
        ends.append((total / np.maximum(there.sum(axis=1), 1)).astype(np.float32))
    full_low, full_high = min_max(statistics, spec)
    return np.clip(ends[0], full_low, 0), np.clip(ends[1], 0, full_high)


def percentile(statistics: TensorStatistics, spec: QuantSpec, *, percentile: float) -> Range:
    """Returns the range that leaves out (100 - percentile) % of the values on each side.

    Linear interpolation inside a bin; within one bin width of the exact quantile.
    """
    histogram, share = statistics.histogram, percentile / 100
    low, high = np.empty_like(histogram.low), np.empty_like(histogram.high)
    for column, edges in enumerate(histogram.edges()):
        cumulative = np.concatenate([[0], np.cumsum(histogram.counts[column])])
        high[column] = np.interp(share * cumulative[-1], cumulative, edges)
        # From the right, so that both sides treat runs of empty bins alike.
        from_right = cumulative[-1] - cumulative[::-1]
        low[column] = np.interp(share * cumulative[-1], from_right, edges[::-1])
    full_low, full_high = min_max(statistics, spec)
    return np.clip(low, full_low, 0), np.clip(high, 0, full_high)


def mse(statistics: TensorStatistics, spec: QuantSpec) -> Range:
    """Returns the range with the smallest expected squared quantization error.

    The expected error of a range with step s is s²/12 for each value inside (uniform rounding
    error, Bennett 1948) and the squared distance to the range for each value outside. Values in
    bin 0 are coded as zero by every step from 2w on, where w is the width of the bins, so that
    their error w²/3 does not depend on the range then. Every pair of at most ``CLIPPING_POINTS``
    lower and upper ends is tried.

    A value outside at distance d from its end is off by at most half a bin width w in the
    histogram, so its term is off by at most w * (d + w / 4).
    """
    histogram = statistics.histogram
    full_low, full_high = min_max(statistics, spec)
    low, high = np.empty_like(full_low), np.empty_like(full_high)
    all_centres, widths = histogram.centres(), histogram.width()
    for column, full in enumerate(zip(full_low, full_high, strict=True)):
        counts, centres, width = histogram.counts[column], all_centres[column], widths[column]
        above = _side(counts[ZERO_BIN:], centres[ZERO_BIN:], float(full[1]), width)
        below = _side(counts[ZERO_BIN::-1], -centres[ZERO_BIN::-1], float(-full[0]), width)
        lows, highs = below.ends[:, None], above.ends[None, :]
        span = 2 * np.maximum(lows, highs) if spec.symmetric else lows + highs
        step = span / (spec.qmax - spec.qmin)
        small, within = counts[ZERO_BIN], counts.sum() - counts[ZERO_BIN]
        inside = within - below.counts[:, None] - above.counts[None, :]
        rounded = inside * step**2 + small * np.minimum(step, 2 * width) ** 2
        error = below.errors[:, None] + above.errors[None, :] + rounded / 12
        best = np.unravel_index(np.argmin(error), error.shape)
        low[column], high[column] = -below.ends[best[0]], above.ends[best[1]]
    return low, high


def entropy(statistics: TensorStatistics, spec: QuantSpec) -> Range:
    """Returns the range whose codes tell most about the values: least Kullback-Leibler divergence.

    The divergence is the one of TensorRT's calibration between the clipped distribution and the
    same with one code per cell (``least_divergence``); what is theirs for |x| is here done for both
    ends of the range, one after the other.
    """
    full_low, full_high = min_max(statistics, spec)
    histogram = statistics.histogram
    found = [
        least_divergence(counts, spec.qmax - spec.qmin + 1, symmetric=spec.symmetric)
        for counts in histogram.counts
    ]
    bins, width = np.array(found, np.float64).reshape(-1, 2), histogram.width()
    low, high = -bins[:, 0] * width, bins[:, 1] * width
    return (
        np.clip(low, full_low, 0).astype(np.float32),
        np.clip(high, 0, full_high).astype(np.float32),
    )


@dataclass(frozen=True)
class _Side:
    """What lies beyond each end that is tried on one side of zero.

    Attributes:
        ends: float64 (n,), distances from zero, ascending; the last one is the extreme.
        counts: int64 (n,), values beyond each end.
        errors: float64 (n,), sum of their squared distances to it.
    """

    ends: Floats
    counts: NDArray[np.int64]
    errors: Floats


def _side(counts: NDArray[np.int64], centres: Floats, extreme: float, width: float) -> _Side:
    """Returns the ends to try on one side; its bins count outwards from bin 0."""
    last = int(max(extreme, 0) / width)
    first_bins = np.arange(1, last + 1)[:: -(-last // CLIPPING_POINTS) or 1]
    ends = np.append(first_bins * width, max(extreme, 0))
    # Nothing lies beyond the extreme: the sums end with a zero.
    beyond = np.append(first_bins, len(counts))
    number, first, second = (
        np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0)[beyond] for power in range(3)
    )
    errors = np.maximum(second - 2 * ends * first + ends**2 * number, 0)
    return _Side(ends, number.astype(np.int64), errors)


OBSERVERS: dict[str, Observe] = {
    "min_max": min_max,
    "moving_average": moving_average,
    "mse": mse,
    "entropy": entropy,
}
"""Observers without options, by their name in the configuration."""


def observer(section: Observer) -> Observe:
    """Returns the observer that the configuration names, with its options bound."""
    if isinstance(section, PercentileObserver):
        return partial(percentile, percentile=section.percentile)
    return OBSERVERS[section.method]
