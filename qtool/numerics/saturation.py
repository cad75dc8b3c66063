"""Saturation of int16 pair sums on x86 CPUs with AVX2 but without VNNI.

Their kernels multiply uint8 activations with int8 weights by VPMADDUBSW, which adds the products of
two neighbouring inputs in int16: a[2i] * w[2i] + a[2i+1] * w[2i+1] is cut to -32768..32767. With
8-bit codes a sum reaches 255 * 127 * 2 = 64,770, so it saturates where both weights are large, of
one sign, and both activations are large too. With 7-bit weights (63) it cannot: 255 * 63 * 2 =
32,130.

Source: Intel Intrinsics Guide, _mm256_maddubs_epi16; ONNX Runtime documentation, "Quantize ONNX
models", on reduce_range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LIMIT = np.iinfo(np.int16)


def saturating_sums(codes: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """Returns how many pair sums of a matrix product saturate, per output: (outputs,).

    Args:
        codes: uint8 (rows, K), the activation.
        weight: int8 (K, outputs).
    """
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
        weight = np.pad(weight, ((0, 1), (0, 0)))
    wide = weight.astype(np.int32).reshape(-1, 2, weight.shape[1])
    largest = codes.max(axis=0).astype(np.int32).reshape(-1, 2, 1)
    # What no row can reach with the largest code of each input is not looked at row by row.
    reach = np.maximum((wide * (wide > 0) * largest).sum(axis=1), 0)
    depth = np.minimum((wide * (wide < 0) * largest).sum(axis=1), 0)
    pairs, outputs = np.nonzero((reach > LIMIT.max) | (depth < LIMIT.min))
    saturated = np.zeros(weight.shape[1], np.int64)
    for pair in np.unique(pairs):
        chosen = outputs[pairs == pair]
        sums = codes[:, 2 * pair : 2 * pair + 2].astype(np.int32) @ wide[pair][:, chosen]
        saturated[chosen] += ((sums > LIMIT.max) | (sums < LIMIT.min)).sum(axis=0)
    return saturated


def may_saturate(largest: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Returns which outputs of a convolution can saturate, from the largest code of each channel.

    Its kernels add pairs of neighbouring channels at one tap. Whether two channels are large at the
    same place is not looked at, so this errs on the safe side.

    Args:
        largest: uint8 (channels,), over the calibration rows.
        weight: int8 (outputs, channels, taps).
    """
    flat = weight.transpose(1, 0, 2).reshape(weight.shape[1], -1)
    sums = saturating_sums(largest[None, :], flat).reshape(weight.shape[0], -1)
    return np.asarray(sums.any(axis=1))
