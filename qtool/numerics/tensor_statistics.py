"""What calibration keeps of one activation: its histogram, extremes of row blocks, channel peaks.

All of it merges exactly and in any order, like the histogram itself. The rows of a calibration set
belong to ``BLOCKS`` blocks by their number: ``BLOCK_ROWS`` rows in a row, then the next block,
starting over after the last one. So memory does not grow with the rows, and up to
``BLOCKS * BLOCK_ROWS`` = 16,384 rows every block has at most ``BLOCK_ROWS`` of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qtool.numerics import histogram as histograms
from qtool.numerics.histogram import Histogram, added

BLOCK_ROWS, BLOCKS = 64, 256

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TensorStatistics:
    """Statistics of the values of one tensor.

    Attributes:
        histogram: the distribution, per column or of the whole tensor.
        block_low: float32 (columns, BLOCKS), minimum of each block of rows; +inf without values.
        block_high: float32 (columns, BLOCKS), maximum of each block of rows; -inf without values.
        channel_peak: float32 (channels,), largest |x| of each channel.
    """

    histogram: Histogram
    block_low: Array
    block_high: Array
    channel_peak: Array


def no_statistics(columns: int, channels: int) -> TensorStatistics:
    """Returns the statistics of no values: the identity of ``merge``."""
    return TensorStatistics(
        Histogram.empty(columns),
        np.full((columns, BLOCKS), np.inf, np.float32),
        np.full((columns, BLOCKS), -np.inf, np.float32),
        np.zeros(channels, np.float32),
    )


def statistics_of(
    x: Array,
    *,
    channel_axis: int | None = None,
    columns: bool = False,
    first_row: int = 0,
    before: TensorStatistics | None = None,
) -> TensorStatistics:
    """Returns the statistics of values that belong to one block of rows.

    Args:
        x: float32 of any shape. Values that are not finite show in the extremes of the histogram,
            whose counts mean nothing then.
        channel_axis: the axis whose indices are channels; None for one channel.
        columns: one histogram per channel instead of one for all; ``x`` is (n, channels) then.
        first_row: number of a row of the block.
        before: of values seen before, which are merged with: faster than ``merge``.
    """
    channels = 1 if channel_axis is None else x.shape[channel_axis]
    before = before or no_statistics(channels if columns else 1, channels)
    if x.size == 0:
        return before
    channel_low, channel_high = _extremes(x, channel_axis)
    peak = np.maximum(-channel_low, channel_high)
    low, high = channel_low, channel_high
    if not columns:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    if np.isfinite(peak).all():
        histogram = added(before.histogram, x if columns else x.reshape(-1, 1), low, high)
    else:
        histogram = replace(before.histogram, low=low, high=high)
    block = first_row // BLOCK_ROWS % BLOCKS
    block_low, block_high = before.block_low.copy(), before.block_high.copy()
    block_low[:, block] = np.minimum(block_low[:, block], low)
    block_high[:, block] = np.maximum(block_high[:, block], high)
    return TensorStatistics(histogram, block_low, block_high, np.maximum(before.channel_peak, peak))


def _extremes(x: Array, channel_axis: int | None) -> tuple[Array, Array]:
    """Returns minimum and maximum of each channel, float32 (channels,)."""
    if channel_axis is None:
        return x.min(keepdims=True).reshape(1), x.max(keepdims=True).reshape(1)
    if channel_axis % x.ndim == x.ndim - 1:
        x = x.reshape(-1, x.shape[-1])  # twice as fast as over several axes
        return x.min(axis=0), x.max(axis=0)
    others = tuple(axis for axis in range(x.ndim) if axis != channel_axis)
    return x.min(axis=others), x.max(axis=others)


def merge(a: TensorStatistics, b: TensorStatistics) -> TensorStatistics:
    """Returns the statistics of the values of both."""
    return TensorStatistics(
        histograms.merge(a.histogram, b.histogram),
        np.minimum(a.block_low, b.block_low),
        np.maximum(a.block_high, b.block_high),
        np.maximum(a.channel_peak, b.channel_peak),
    )


def joined(statistics: TensorStatistics) -> TensorStatistics:
    """Returns the statistics of all columns as one."""
    return TensorStatistics(
        histograms.joined(statistics.histogram),
        statistics.block_low.min(axis=0, keepdims=True),
        statistics.block_high.max(axis=0, keepdims=True),
        statistics.channel_peak,
    )
