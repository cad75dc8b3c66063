"""Tensors that quantize badly by their values: outlier channels, and ranges set by a few values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qtool.numerics.histogram import Histogram
from qtool.numerics.tensor_statistics import TensorStatistics

CHANNEL_RATIO = 20.0
"""A channel this much larger than the median one leaves that one 8 - log2(20), under 4, bits.

Dettmers et al. 2022 (LLM.int8(), arXiv 2208.07339) find outlier features at up to 20 times the
others, and that they decide how much INT8 costs.
"""
FEW = 1e-4
"""Share of the values that sets a range alone: one bit is spent on less than 0.01 % of them."""


@dataclass(frozen=True)
class TensorOutliers:
    """How the values of one planned tensor lie in its range.

    Attributes:
        tensor: its name.
        values: how many were seen; padding does not count.
        channels: how many channels it has; 1 where they are not known or it is one by nature.
        largest_channel: index of the one with the largest |x|.
        channel_ratio: its largest |x| over the median of all channels that are not all zero.
        outer_half_share: share of the values beyond half of the minimum or the maximum, by the
            middles of the histogram's bins.
        warnings: what of this matters, in words.
    """

    tensor: str
    values: int
    channels: int
    largest_channel: int
    channel_ratio: float
    outer_half_share: float
    warnings: tuple[str, ...]


def outliers(statistics: Mapping[str, TensorStatistics]) -> list[TensorOutliers]:
    """Returns the outliers of every tensor that has one range; the worst come first."""
    found = [
        _outliers(name, seen)
        for name, seen in statistics.items()
        if len(seen.histogram.low) == 1  # column scales leave no outlier columns
    ]
    return sorted(found, key=lambda item: (-len(item.warnings), -item.channel_ratio, item.tensor))


def _outliers(name: str, seen: TensorStatistics) -> TensorOutliers:
    peak = seen.channel_peak
    used = peak[peak > 0]
    ratio = float(peak.max() / np.median(used)) if len(used) else 1.0
    share = outer_half_share(seen.histogram)
    largest = int(peak.argmax())
    warnings = []
    if ratio > CHANNEL_RATIO:
        warnings.append(f"channel {largest} is {ratio:.0f} times the median channel")
    if share < FEW and len(used):
        warnings.append(f"half of the range is for {share:.1g} of the values")
    values = int(seen.histogram.total[0])
    return TensorOutliers(name, values, len(peak), largest, ratio, share, tuple(warnings))


def outer_half_share(histogram: Histogram) -> float:
    """Returns the share of a whole tensor's values beyond half of its minimum or maximum."""
    centres, counts = histogram.centres()[0], histogram.counts[0]
    outer = (centres > max(histogram.high[0], 0) / 2) | (centres < min(histogram.low[0], 0) / 2)
    return float(counts[outer].sum() / max(counts.sum(), 1))
