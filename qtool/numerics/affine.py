"""Affine quantization: real number ↔ 8-bit code.

    q  = clamp(round_half_even(x / scale) + zero_point, qmin, qmax)
    x' = (q - zero_point) * scale

The scale is float32 and zero is always exact (ONNX operators QuantizeLinear and DequantizeLinear,
opset 13 and later). A ``QuantSpec`` says which codes there are, ``QuantParams`` adds the numbers;
the four verbs compose: choose → quantize → dequantize, and fake_quantize does the last two.

**Columns.** An activation with ``axis=1`` has one scale per column of a (rows, columns) tensor.
ONNX Runtime's QuantizeLinear is slow with an axis, so the writer emits ``Mul(1/scale) →
Add(zero_point) → QuantizeLinear(1, 0)``, and this module computes the same: multiplication by the
float32 reciprocal, then addition, then rounding. The consumer's weight absorbs the scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Dtype = Literal["uint8", "int8"]
Array = NDArray[np.float32]
Codes = NDArray[np.integer]
Scalar = TypeVar("Scalar", bound=np.generic)
TINY = np.float32(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class QuantSpec:
    """Which codes a tensor may take.

    Attributes:
        dtype: storage type of the codes.
        symmetric: the zero point is 0 and the codes are -qmax..qmax (int8 only).
        axis: None for one scale per tensor, else the axis with one scale per index.
        bits: codes use this many bits of the storage type (7 avoids int16 saturation on AVX2).
        block: for a matrix (K, N): one scale per ``block`` consecutive rows of each column, the
            last block may be shorter; ``axis`` is None then.
    """

    dtype: Dtype
    symmetric: bool
    axis: int | None = None
    bits: int = 8
    block: int | None = None

    def __post_init__(self) -> None:
        if self.symmetric and self.dtype != "int8":
            raise ValueError("a symmetric spec needs int8")
        if self.block is not None and (self.axis is not None or not self.symmetric):
            raise ValueError("a block-wise spec is symmetric and has no axis")

    @property
    def qmax(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1 if self.dtype == "uint8" else (1 << (self.bits - 1)) - 1

    @property
    def qmin(self) -> int:
        """Smallest code; symmetric specs leave out -2^(bits-1)."""
        if self.dtype == "uint8":
            return 0
        return -self.qmax if self.symmetric else -(1 << (self.bits - 1))


@dataclass(frozen=True)
class QuantParams:
    """A spec with its numbers: ``scale`` float32 and ``zero_point`` of the spec's dtype.

    Both have shape () without an axis, (n,) with one, (blocks, n) block-wise.
    """

    spec: QuantSpec
    scale: Array
    zero_point: Codes

    def broadcast(self, values: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
        """Returns ``values`` (scales or zero points) so that they broadcast over ``shape``."""
        if self.spec.block is not None:
            return np.repeat(values, self.spec.block, axis=0)[: shape[0]]
        if self.spec.axis is None:
            return values
        spread = [1] * len(shape)
        spread[self.spec.axis] = -1
        return values.reshape(spread)


def choose_qparams(low: Array, high: Array, spec: QuantSpec) -> QuantParams:
    """Returns the scale and zero point that cover [low, high], widened to contain zero.

    A range of zero width (a tensor that is always zero) gets scale 1.

    Args:
        low: smallest real value; shape () or (n,), finite.
        high: largest real value; the same shape.
        spec: the codes.

    Raises:
        ValueError: a bound is NaN or infinite, or low > high.

    Source: the affine mapping of Jacob et al. 2018, arXiv 1712.05877, equation 1.
    """
    low64 = np.minimum(np.asarray(low, np.float64), 0.0)
    high64 = np.maximum(np.asarray(high, np.float64), 0.0)
    if not (np.isfinite(low64).all() and np.isfinite(high64).all()) or (low > high).any():
        raise ValueError(f"not a finite range: [{low}, {high}]")
    if spec.symmetric:
        scale = np.maximum(-low64, high64) / spec.qmax
    else:
        scale = (high64 - low64) / (spec.qmax - spec.qmin)
    # A width below float32's normal numbers would make the reciprocal infinite.
    scale32 = np.where(scale < 4 * TINY, np.float32(1), scale).astype(np.float32)
    if spec.symmetric:
        zero_point = np.zeros(scale32.shape, spec.dtype)
    else:
        exact = spec.qmin - low64 / scale32
        zero_point = np.clip(np.rint(exact), spec.qmin, spec.qmax).astype(spec.dtype)
    return QuantParams(spec, scale32, zero_point)


def weight_qparams(weight: Array, spec: QuantSpec) -> QuantParams:
    """Returns min-max parameters for a constant tensor."""
    if spec.block is not None:
        missing = -len(weight) % spec.block
        padded = np.concatenate([weight, np.zeros((missing, weight.shape[1]), np.float32)])
        blocks = padded.reshape(-1, spec.block, weight.shape[1])
        return choose_qparams(blocks.min(axis=1), blocks.max(axis=1), spec)
    axes = None if spec.axis is None else tuple(a for a in range(weight.ndim) if a != spec.axis)
    return choose_qparams(weight.min(axis=axes), weight.max(axis=axes), spec)


def quantize(x: Array, params: QuantParams) -> Codes:
    """Returns the codes of ``x``: division by the scale, round half to even, clamp."""
    scale = params.broadcast(params.scale, x.shape)
    codes = np.rint(x / scale) + params.broadcast(params.zero_point, x.shape).astype(np.float32)
    return _clamped(codes, params.spec)


def quantize_columns(x: Array, params: QuantParams) -> Codes:
    """Returns the codes of a column-wise activation, as Mul → Add → QuantizeLinear does."""
    scaled = x * (np.float32(1) / params.scale) + params.zero_point.astype(np.float32)
    return _clamped(np.rint(scaled), params.spec)


def dequantize(codes: Codes, params: QuantParams) -> Array:
    """Returns the real numbers that ``codes`` stand for, float32."""
    zero_point = params.broadcast(params.zero_point, codes.shape).astype(np.int32)
    centred = (codes.astype(np.int32) - zero_point).astype(np.float32)
    return np.asarray(centred * params.broadcast(params.scale, codes.shape), np.float32)


def fake_quantize(x: Array, params: QuantParams) -> Array:
    """Returns ``x`` moved to the nearest representable numbers."""
    return dequantize(quantize(x, params), params)


def _clamped(codes: Array, spec: QuantSpec) -> Codes:
    return np.asarray(np.clip(codes, spec.qmin, spec.qmax).astype(spec.dtype))
