"""Initial scales of constant weights: min-max with 8 bits, least squared error with fewer.

The smallest squared error of bell-shaped weights is, as a share of min-max's, 0.96 with 8 bits,
0.47 with 4, 0.31 with 3 and 0.22 with 2 (one scale per tensor; per channel 0.99, 0.75, 0.54, 0.29).
With 8 bits that is not worth the clipping of the largest weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qtool.numerics.affine import Array, QuantParams, QuantSpec, fake_quantize, weight_qparams

MIN_MAX_BITS = 7
"""From so many bits on min-max is used; 7-bit weights avoid saturation and mean what 8 bits do."""
SHARES = np.linspace(1.0, 0.2, 33, dtype=np.float32)
"""Share of the min-max range that is tried, 1 first."""
REFINEMENTS = 4


def initial_weight_qparams(weight: Array, spec: QuantSpec) -> QuantParams:
    """Returns the parameters that a constant weight starts with.

    Args:
        weight: float32; a matrix where the spec is block-wise.
        spec: symmetric codes, one scale per tensor, per index of an axis or per block of rows.
    """
    if spec.bits >= MIN_MAX_BITS:
        return weight_qparams(weight, spec)
    return mse_weight_qparams(weight, spec)


def mse_weight_qparams(weight: Array, spec: QuantSpec) -> QuantParams:
    """Returns scales with a squared error that is at most min-max's, for each scale on its own.

    All shares of the min-max range are tried; from the best one, codes and scale are fitted to
    each other in turn: with codes q the best scale is Σ w q / Σ q².

    Args:
        weight: float32.
        spec: symmetric codes.

    Source: the grid over clipping shares as in Nagel et al. 2021, "A white paper on neural network
    quantization", arXiv 2106.08295, section 3.1; the alternation is Lloyd 1982 on a uniform grid,
    as in Zhang et al. 2018 (LQ-Nets), arXiv 1807.10029, equation 7.
    """
    widest = weight_qparams(weight, spec)
    best = widest
    least = _error(weight, best)
    for share in SHARES[1:]:
        best, least = _better(weight, best, least, widest.scale * share)
    for _ in range(REFINEMENTS):
        best, least = _better(weight, best, least, _fitted_scale(weight, best))
    return best


def _better(
    weight: Array, best: QuantParams, least: NDArray[np.float64], scale: Array
) -> tuple[QuantParams, NDArray[np.float64]]:
    """Returns ``best`` with the scales of ``scale`` wherever their error is smaller."""
    error = _error(weight, replace(best, scale=scale))
    chosen = np.where(error < least, scale, best.scale).astype(np.float32)
    return replace(best, scale=chosen), np.minimum(error, least)


def _error(weight: Array, params: QuantParams) -> NDArray[np.float64]:
    """Returns the squared error under each scale."""
    difference = (weight - fake_quantize(weight, params)).astype(np.float64)
    return _sum(difference * difference, params.spec)


def _fitted_scale(weight: Array, params: QuantParams) -> Array:
    codes = fake_quantize(weight, params) / params.broadcast(params.scale, weight.shape)
    squares = _sum(codes.astype(np.float64) ** 2, params.spec)
    products = _sum(weight.astype(np.float64) * codes, params.spec)
    fitted = np.divide(products, squares, out=params.scale.astype(np.float64), where=squares > 0)
    return np.asarray(fitted, np.float32)


def _sum(values: NDArray[np.float64], spec: QuantSpec) -> NDArray[np.float64]:
    """Returns the sum of ``values`` over what shares one scale."""
    if spec.block is not None:
        starts = np.arange(0, len(values), spec.block)
        return np.asarray(np.add.reduceat(values, starts, axis=0))
    if spec.axis is None:
        return np.asarray(values.sum())
    others = tuple(axis for axis in range(values.ndim) if axis != spec.axis)
    return np.asarray(values.sum(axis=others))
