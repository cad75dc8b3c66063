"""Observers: from the histogram of an activation to the range that its codes cover.

Each observer is a function ``(histogram, spec) -> (low, high)`` with float32 arrays of shape
(columns,); the dict at the end is the list of them. All ranges contain zero and lie inside the
exact minimum and maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qtool.config.quantization import Observer, PercentileObserver
from qtool.numerics.affine import QuantSpec
from qtool.numerics.histogram import Histogram

Range = tuple[NDArray[np.float32], NDArray[np.float32]]
Observe = Callable[[Histogram, QuantSpec], Range]

SHRINKS = 128
"""Clipping candidates per side that the MSE observer tries."""


def min_max(histogram: Histogram, spec: QuantSpec) -> Range:
    """Returns the exact minimum and maximum."""
    del spec
    return np.minimum(histogram.low, 0), np.maximum(histogram.high, 0)


def percentile(histogram: Histogram, spec: QuantSpec, *, percentile: float) -> Range:
    """Returns the range that leaves out (100 - percentile) % of the values on each side.

    Linear interpolation inside a bin; within one bin width of the exact quantile.
    """
    del spec
    share = percentile / 100
    left, right = histogram.edges()
    low, high = np.empty_like(histogram.low), np.empty_like(histogram.high)
    for column, counts in enumerate(histogram.counts):
        cumulative = np.concatenate([[0], np.cumsum(counts)])
        edges = np.concatenate([left[column], right[column, -1:]])
        high[column] = np.interp(share * cumulative[-1], cumulative, edges)
        # From the right, so that both sides treat runs of empty bins alike.
        from_right = cumulative[-1] - cumulative[::-1]
        low[column] = np.interp(share * cumulative[-1], from_right, edges[::-1])
    full_low, full_high = min_max(histogram, QuantSpec("uint8", symmetric=False))
    return np.clip(low, full_low, 0), np.clip(high, 0, full_high)


def mse(histogram: Histogram, spec: QuantSpec) -> Range:
    """Returns the range with the smallest expected squared quantization error.

    The expected error of a range with step s is s²/12 for each value inside (uniform rounding
    error, Bennett 1948; none for exact zeros, which are representable) and the squared distance to
    the range for each value outside. The upper and the lower end are chosen in turn from
    ``SHRINKS`` fractions of the full range until neither moves.
    """
    full_low, full_high = min_max(histogram, spec)
    left, right = histogram.edges()
    low, high = full_low.astype(np.float64), full_high.astype(np.float64)
    fractions = np.arange(1, SHRINKS + 1) / SHRINKS
    for column in range(len(low)):
        # Values of a bin sit between its edges and between the exact extremes.
        centre = np.clip((left[column] + right[column]) / 2, low[column], high[column])
        counts = histogram.counts[column]
        filled = counts > 0
        error = partial(
            _expected_error,
            centre=centre[filled],
            counts=counts[filled].astype(np.float64),
            zeros=float(histogram.zeros[column]),
            levels=spec.qmax - spec.qmin,
            symmetric=spec.symmetric,
        )
        low[column], high[column] = _descend(error, low[column], high[column], fractions)
    return low.astype(np.float32), high.astype(np.float32)


def _descend(
    error: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    low: float,
    high: float,
    fractions: NDArray[np.float64],
) -> tuple[float, float]:
    best_low, best_high = low, high
    for _ in range(4):  # two suffice in practice; each candidate set contains the present choice
        highs = high * fractions
        next_high = float(highs[np.argmin(error(np.full_like(highs, best_low), highs))])
        lows = low * fractions
        next_low = float(lows[np.argmin(error(lows, np.full_like(lows, next_high)))])
        if (next_low, next_high) == (best_low, best_high):
            break
        best_low, best_high = next_low, next_high
    return best_low, best_high


def _expected_error(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    *,
    centre: NDArray[np.float64],
    counts: NDArray[np.float64],
    zeros: float,
    levels: int,
    symmetric: bool,
) -> NDArray[np.float64]:
    """Total expected squared error of each candidate range."""
    step = (2 * np.maximum(-low, high) if symmetric else high - low) / levels
    outside = np.maximum(centre[None, :] - high[:, None], 0) + np.maximum(
        low[:, None] - centre[None, :], 0
    )
    inside = (counts[None, :] * (outside == 0)).sum(axis=1) - zeros
    clipped: NDArray[np.float64] = (counts[None, :] * outside**2).sum(axis=1)
    rounded: NDArray[np.float64] = np.maximum(inside, 0) * step**2 / 12
    return clipped + rounded


OBSERVERS: dict[str, Observe] = {"min_max": min_max, "mse": mse}
"""Observers without options, by their name in the configuration."""


def observer(section: Observer) -> Observe:
    """Returns the observer that the configuration names, with its options bound."""
    if isinstance(section, PercentileObserver):
        return partial(percentile, percentile=section.percentile)
    return OBSERVERS[section.method]
