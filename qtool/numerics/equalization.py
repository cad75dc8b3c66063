"""Cross-layer equalization: the channels between two layers get the same range in both weights.

Between y = f(W1 x + b1) and W2 y, where f(s y) = s f(y) for s > 0, channel i may be divided by s_i
in the first layer and multiplied by it in the second. Under one scale per tensor a channel with the
range r_i keeps p_i = r_i / R of the resolution, R being the whole weight's range; the product of
both layers' p_i, summed over the channels, is largest where both ranges of a channel are equal.

Source: Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction",
arXiv 1906.04721, section 4.1 and equations 7 to 11.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def equalizing_factors(first: Floats, second: Floats) -> Floats:
    """Returns s_i = sqrt(r1_i r2_i) / r2_i, equation 11; 1 where a range is zero.

    Args:
        first: float64 (channels,), max |w| of each channel in the layer that is divided by s.
        second: float64 (channels,), in the layer that is multiplied by it.
    """
    used = (first > 0) & (second > 0)
    factors = np.ones(len(first))
    factors[used] = np.sqrt(first[used] / second[used])
    return factors


def lost_precision(first: Floats, second: Floats) -> float:
    """Returns 1 minus the mean over the channels of p1_i p2_i, equations 8 and 9.

    Channels with a zero range hold nothing and do not count; 0 where there is no other.

    Args:
        first: float64 (channels,), p1: max |w| of each channel over that of the whole weight.
        second: float64 (channels,), p2.
    """
    used = (first > 0) & (second > 0)
    return float(1 - (first[used] * second[used]).mean()) if used.any() else 0.0
