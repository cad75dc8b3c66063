"""The entropy observer's search: where to clip so that the codes tell most about the values.

For a range [a, b], P is the distribution of the values over the bins of the histogram, with what
lies outside added to the outermost bins of the range. Q is what the codes know: the range is cut
into as many cells as there are codes, and the values inside of each cell are spread evenly over
its bins that P fills. The range with the least divergence

    KL(P ‖ Q) = Σ p log(p / q)

over the bins of the range is chosen; where Q has nothing although P has (only outliers in a cell)
it is infinite. Ranges have at least one bin per code. Bin 0 takes no part, as in NVIDIA's
pytorch-quantization 2.1 (``_compute_amax_entropy``, ``bins[0] = bins[1]``): every range represents
zero, and after a ReLU zeros would outweigh all other values.

Source: Migacz 2017, "8-bit Inference with TensorRT" (GTC S7310), "Entropy calibration -
pseudocode", which does this for |x| and 128 cells. Here the range has two ends: the upper one is
chosen with the full lower side, the lower one with that upper one, and again until neither moves.
Symmetric codes have one end, as theirs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtool.numerics.histogram import HALF_BINS, ZERO_BIN

CLIPPING_POINTS = 64
"""Most ends per side that are tried."""
TURNS = 6
"""Searches of one side; three suffice in practice, as each set of ends has the present one."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
NUMBERS = np.arange(-ZERO_BIN, HALF_BINS)


def least_divergence(counts: Ints, cells: int, *, symmetric: bool = False) -> tuple[int, int]:
    """Returns how many bins the best range reaches below and above zero.

    Args:
        counts: int64 (BINS,), values per bin of one histogram.
        cells: codes.
        symmetric: the cells reach as far below zero as above.
    """
    nonzero = counts.copy()
    nonzero[ZERO_BIN] = 0
    filled = NUMBERS[nonzero > 0]
    # Bin 0 belongs to both sides.
    below, above = 1 - min(filled.min(initial=0), 0), 1 + max(filled.max(initial=0), 0)
    if not len(filled):
        return below, above
    measure = _measure(nonzero, cells, symmetric)
    if symmetric:
        ends = _ends(max(below, above), cells // 2)
        pairs = np.minimum(ends, below), np.minimum(ends, above)
        place = np.argmin(measure(*pairs))
        return int(pairs[0][place]), int(pairs[1][place])
    reach = [below, above]
    for turn in range(TURNS):
        side = 1 - turn % 2  # above first
        ends = _ends((below, above)[side], cells - reach[1 - side])
        other = np.full_like(ends, reach[1 - side])
        best = int(ends[np.argmin(measure(*((other, ends) if side else (ends, other))))])
        # What one side found still holds when the other has not moved since.
        if turn and best == reach[side]:
            break
        reach[side] = best
    return reach[0], reach[1]


def _ends(last: int, least: int) -> Ints:
    """Returns at most CLIPPING_POINTS + 1 numbers of bins from ``least`` to ``last``, ascending."""
    least = min(max(least, 1), last)
    step = max(1, -(-(last - least) // CLIPPING_POINTS))
    return np.arange(last, least - 1, -step)[::-1].astype(np.int64)


def _measure(counts: Ints, cells: int, symmetric: bool) -> Callable[[Ints, Ints], Floats]:
    """Returns the function that gives the divergence of ranges: bins below and above → KL."""
    total = np.concatenate([[0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    self_information = np.concatenate([[0], np.cumsum(_x_log_x(counts))])
    parts = np.arange(cells + 1) / cells

    def divergence(below: Ints, above: Ints) -> Floats:
        first, after = ZERO_BIN - below + 1, ZERO_BIN + above
        low, high = -below.astype(np.float64), above.astype(np.float64)
        if symmetric:
            high = np.maximum(-low, high)
            low = -high
        limits = low[:, None] + (high - low)[:, None] * parts
        cut = np.clip(_bins_from(limits) + ZERO_BIN, first[:, None], after[:, None])
        cut[:, 0], cut[:, -1] = first, after
        # Outliers join the first and the last bin of the range, wherever the cells lie.
        outliers = np.stack([total[first], total[-1] - total[after]], axis=1)
        edges = np.stack([first, after - 1], axis=1)
        known, bins = np.diff(total[cut], axis=1), np.diff(filled[cut], axis=1)
        clipped, rows = known.copy(), np.arange(len(below))[:, None]
        cell = (cut[:, None, 1:] <= edges[:, :, None]).sum(axis=2)
        for side in (0, 1):
            place = rows[:, 0], cell[:, side]
            clipped[place] += outliers[:, side]
            bins[place] += (outliers[:, side] > 0) & (counts[edges[:, side]] == 0)
        entropy = self_information[after] - self_information[first]
        entropy = entropy + _change(counts, edges, outliers)
        return _divergence(entropy, clipped, known, bins)

    return divergence


def _bins_from(limits: Floats) -> Ints:
    """Returns the first bin whose middle is not below each limit: ±(number + 1/2), 0 for bin 0."""
    positive = np.maximum(np.ceil(limits - 0.5), 1)
    negative = np.minimum(np.ceil(limits + 0.5), 0)
    return np.asarray(np.where(limits > 0, positive, negative), np.int64)


def _change(counts: Ints, edges: Ints, outliers: Ints) -> Floats:
    """Returns what the outliers change in Σ p log p; both ends may be one bin."""
    one = edges[:, 0] == edges[:, 1]
    added = np.where(one[:, None], [[1, 0]] * outliers.sum(axis=1, keepdims=True), outliers)
    changed: Floats = (_x_log_x(counts[edges] + added) - _x_log_x(counts[edges])).sum(axis=1)
    return changed


def _divergence(entropy: Floats, clipped: Ints, known: Ints, bins: Ints) -> Floats:
    """Returns KL(P ‖ Q) of each range; p and q are counts per bin here, normalized at the end.

    Args:
        entropy: (n,), Σ p log p over the bins.
        clipped: (n, cells), values of P per cell.
        known: (n, cells), values of Q per cell.
        bins: (n, cells), bins of each cell that P fills.
    """
    density = np.log(np.maximum(known, 1) / np.maximum(bins, 1))
    cross = (clipped * density).sum(axis=1)
    all_of_p, all_of_q = clipped.sum(axis=1), known.sum(axis=1)
    found = (entropy - cross) / all_of_p - np.log(all_of_p) + np.log(np.maximum(all_of_q, 1))
    impossible = ((clipped > 0) & (known == 0)).any(axis=1)
    return np.where(impossible, np.inf, found)


def _x_log_x(x: Ints) -> Floats:
    return np.asarray(x * np.log(np.maximum(x, 1)), np.float64)
