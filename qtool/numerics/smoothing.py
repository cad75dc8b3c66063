"""Smoothing: the spread of an activation's channels moves into the weights that read it.

With factors s of the channels, Y = X W = (X diag(1/s)) (diag(s) W). An activation with one scale
loses its small channels beside a large one; its weights, which have no such channels, can take them
(SmoothQuant, Xiao et al. 2023, arXiv 2211.10438).

What a choice of s costs is told by moments of the channels alone. With u_k = x_k / s_k, W' the
weights that are quantized and D' their error, the expected squared error of the outputs is

    Σ_k min(P(u_k != 0) d²/12, E[u_k²]) |W'_k|²   +   Σ_k E[u_k²] |D'_k|²,

where d is the step of the activation's whole range: zeros are exact, and a channel that is rounded
to zero loses its square. The layers that make the channels are divided by s, and their errors count
as much as the readers' weights magnify them. Errors of different channels are taken to be
independent. Ranges are minima and maxima: an observer that clips does so before and after.

The largest value of a channel is an uncertain number. Divided by it, other values of the channel
reach beyond 1, of some channel among hundreds far beyond; so s comes from the largest values on
some rows and is judged by the moments on others (measured without: a ReLU network with 3 x 512
units and one scale per output lost 6 dB to smoothing that seemed to win 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtool.numerics.affine import Array, QuantSpec, fake_quantize
from qtool.numerics.weight_scales import initial_weight_qparams

Floats = NDArray[np.float64]
STRENGTHS = tuple(np.linspace(0, 1, 11).round(1).tolist())
"""What ``best_factors`` tries."""
FEW = 100
"""Values of which the largest says little: that of twice as many is, of bell-shaped ones, 8 % more;
of exponential ones 13 %."""
LEVELS = 255
"""Steps of an 8-bit activation."""


@dataclass(frozen=True)
class Channels:
    """Moments of the channels of an activation, float64 (channels,); ``filled``: P(x != 0)."""

    low: Floats
    high: Floats
    mean_square: Floats
    filled: Floats

    @property
    def peak(self) -> Floats:
        """Max |x| of each channel."""
        return np.maximum(-self.low, self.high)

    def divided(self, factors: Floats) -> Channels:
        """Returns the moments of the channels over ``factors`` > 0."""
        square = self.mean_square / (factors * factors)
        return Channels(self.low / factors, self.high / factors, square, self.filled)


@dataclass(frozen=True)
class Reader:
    """The weight of a layer that reads the activation.

    Attributes:
        weight: float32 (groups, outputs, channels, taps), of each group; a dense layer has one
            group and one tap.
        spec: of its codes; axis 0 for one scale per output.
    """

    weight: Array
    spec: QuantSpec

    @property
    def peak(self) -> Floats:
        """Max |w| of each channel, float64 (channels,)."""
        return _of_channels(np.abs(self.weight).max(axis=(1, 3)))

    def times(self, factors: Floats) -> Array:
        """Returns the weight of channels that are multiplied by ``factors``."""
        groups, _, channels, _ = self.weight.shape
        return (self.weight * factors.reshape(groups, 1, channels, 1)).astype(np.float32)

    def squares(self, factors: Floats) -> tuple[Floats, Floats]:
        """Returns the squared norm of each channel's weights and of their rounding errors."""
        weight = self.times(factors)
        error = rounding_error(weight.reshape(weight.shape[0] * weight.shape[1], -1), self.spec)
        squares = (np.square(part, dtype=np.float64) for part in (weight, error))
        sums = [_of_channels(part.reshape(weight.shape).sum(axis=(1, 3))) for part in squares]
        return sums[0], sums[1]


@dataclass(frozen=True)
class Maker:
    """The weight of a layer that makes channels of the activation.

    Attributes:
        weight: float32 (outputs, inputs).
        mean_square: E[x²] of what it reads, broadcasts over ``weight``.
        channels: int (outputs,), which channel each output becomes; -1: none of them.
        spec: of its codes; axis 0 for one scale per output.
    """

    weight: Array
    mean_square: Floats
    channels: NDArray[np.intp]
    spec: QuantSpec

    def variance(self, factors: Floats) -> Floats:
        """Returns the squared error of each output when channels are divided by ``factors``."""
        weight = self.weight / np.append(factors, 1.0)[self.channels][:, None]
        error = rounding_error(weight.astype(np.float32), self.spec)
        return np.asarray((np.square(error, dtype=np.float64) * self.mean_square).sum(axis=1))


@dataclass(frozen=True)
class Group:
    """Layers that read one activation, and those whose weights make it.

    Attributes:
        channels: moments that errors are computed from.
        peak: max |x| of each channel on other rows (``expected_peak``), which factors come from.
        readers: the layers that read it.
        makers: the layers that make it.
    """

    channels: Channels
    peak: Floats
    readers: Sequence[Reader]
    makers: Sequence[Maker] = ()

    def error(self, factors: Floats) -> float:
        """Returns the expected squared error of the readers' outputs, as a share of their square.

        0 where the readers' outputs are always 0.
        """
        squares = [reader.squares(factors) for reader in self.readers]
        weights, errors = (sum(part, np.zeros(len(factors))) for part in zip(*squares, strict=True))
        smooth = self.channels.divided(factors)
        step = (max(smooth.high.max(), 0) - min(smooth.low.min(), 0)) / LEVELS
        rounding = np.minimum(smooth.filled * step * step / 12, smooth.mean_square)
        total = float((rounding * weights + smooth.mean_square * errors).sum())
        for maker in self.makers:
            # An output that becomes no channel counts as much as the mean channel does at factor 1.
            other = float((weights / factors**2).mean())
            total += float(maker.variance(factors) @ np.append(weights, other)[maker.channels])
        square = float((smooth.mean_square * weights).sum())
        return total / square if square > 0 else 0.0


def expected_peak(channels: Channels, rows: int) -> Floats:
    """Returns max |x| of each channel, moved towards the median channel's where few values are.

    A channel that was 0 on nearly all rows has shown nothing of how large it gets; the median
    channel counts like ``FEW`` of its values. A channel without any keeps 0.

    Args:
        channels: moments.
        rows: how many values of each channel they are of.
    """
    seen = channels.filled * rows
    used = seen > 0
    peak = channels.peak
    typical = np.median(peak[used]) if used.any() else 0.0
    return np.where(used, (seen * peak + FEW * typical) / (seen + FEW), 0.0)


def smoothing_factors(group: Group, strength: float) -> Floats:
    """Returns the factors s_k = max|x_k|^a / max|w_k|^(1 - a), with a geometric mean of 1.

    A channel that is always zero, or whose weights are, has the factor 1.

    Args:
        group: what reads and makes the activation.
        strength: a, from 0 (all channels of the weights alike) to 1 (of the activation).

    Source: Xiao et al. 2023, arXiv 2211.10438, equation 4. The common factor changes nothing.
    """
    activation = group.peak
    weight = np.max([reader.peak for reader in group.readers], axis=0)
    used = (activation > 0) & (weight > 0)
    factors = np.ones(len(activation))
    logs = strength * np.log(activation[used]) - (1 - strength) * np.log(weight[used])
    if used.any():
        factors[used] = np.exp(logs - logs.mean())
    return factors


def best_factors(group: Group, strengths: Sequence[float] = STRENGTHS) -> tuple[Floats, float]:
    """Returns the factors of the strength with the least error, and that error.

    They are all 1 where no strength has a smaller error than no smoothing.
    """
    best = np.ones(len(group.channels.low))
    least = group.error(best)
    for strength in strengths:
        factors = smoothing_factors(group, strength)
        error = group.error(factors)
        if error < least:
            best, least = factors, error
    return best, least


def rounding_error(weight: Array, spec: QuantSpec) -> Array:
    """Returns what rounding adds to ``weight``, float32 of its shape."""
    return fake_quantize(weight, initial_weight_qparams(weight, spec)) - weight


def _of_channels(groups: NDArray[np.floating]) -> Floats:
    """Returns (groups, channels of each) as (channels,), float64."""
    return np.asarray(groups, np.float64).reshape(-1)
