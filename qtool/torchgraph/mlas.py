"""Sigmoid and tanh as MLAS, the kernels of ONNX Runtime, compute them: to the bit.

Both are ratios of polynomials in float32, with fused multiply-add. The float64 sum of an exact
product and an addend, rounded to float32, is what a fused multiply-add gives: the product of two
float32 fits into a float64, and that the sum is rounded twice shows in about one of 2**29 cases.

Source: ONNX Runtime 1.31, onnxruntime/core/mlas/lib/logistic.cpp and tanh.cpp, and their kernels
for x86 with FMA3, which have the same constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

LOGISTIC_RANGE, TANH_RANGE = 18.0, 9.0
LOGISTIC = (
    (
        4.37031012579801e-11,
        1.15627324459942e-07,
        6.08574864600143e-05,
        8.51377133304701e-03,
        2.48287947061529e-01,
    ),
    (
        6.10247389755681e-13,
        5.76102136993427e-09,
        6.29106785017040e-06,
        1.70198817374094e-03,
        1.16817656904453e-01,
        9.93151921023180e-01,
    ),
)
"""Numerator, which is multiplied by x, and denominator in x², the highest power first."""
TANH = (
    (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ),
    (
        1.19825839466702e-06,
        1.18534705686654e-04,
        2.26843463243900e-03,
        4.89352518554385e-03,
    ),
)


def sigmoid(x: Tensor) -> Tensor:
    """Returns the logistic function of float32 ``x``, without a gradient."""
    return (_ratio(x.clamp(-LOGISTIC_RANGE, LOGISTIC_RANGE), *LOGISTIC) + 0.5).clamp(0.0, 1.0)


def tanh(x: Tensor) -> Tensor:
    """Returns the hyperbolic tangent of float32 ``x``, without a gradient."""
    return _ratio(x.clamp(-TANH_RANGE, TANH_RANGE), *TANH)


def _ratio(x: Tensor, numerator: Sequence[float], denominator: Sequence[float]) -> Tensor:
    square = (x * x).double()
    return _polynomial(square, numerator) * x / _polynomial(square, denominator)


def _polynomial(square: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Horner's scheme; every step is rounded to float32."""
    first, *others = (float(np.float32(number)) for number in coefficients)
    total = torch.full_like(square, first)
    for coefficient in others:
        total = (total * square + coefficient).float().double()
    return total.float()
