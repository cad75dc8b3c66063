"""Convolutions and pooling against ONNX Runtime: every attribute that moves a window."""

from __future__ import annotations

import numpy as np
import pytest
from torchgraph.operator_cases import Case, check

GENERATOR = np.random.default_rng(3)


def values(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


SEQUENCE, PICTURE, VOLUME = values(2, 4, 11), values(2, 4, 9, 7), values(1, 2, 5, 6, 4)
BIAS = values(6)


def _conv(test, x, weight, bias=True, **attributes):
    constants = (weight, BIAS[: weight.shape[0]]) if bias else (weight,)
    return Case("Conv", (x,), constants, attributes, test=f" {test}")


def _transposed(test, x, weight, **attributes):
    channels = weight.shape[1] * attributes.get("group", 1)
    return Case("ConvTranspose", (x,), (weight, BIAS[:channels]), attributes, test=f" {test}")


CASES = [
    _conv("1-d", SEQUENCE, values(6, 4, 3)),
    _conv("causal", SEQUENCE, values(6, 4, 3), pads=[4, 0], dilations=[2]),
    _conv("stride", SEQUENCE, values(6, 4, 3), bias=False, pads=[1, 1], strides=[2]),
    _conv("depthwise", SEQUENCE, values(4, 1, 3), group=4, pads=[1, 1]),
    _conv("2-d", PICTURE, values(6, 2, 3, 2), group=2, pads=[1, 0, 1, 1], strides=[2, 1]),
    _conv("3-d", VOLUME, values(3, 2, 2, 3, 1), dilations=[1, 2, 1]),
    *(
        _conv(f"{name} {stride}", PICTURE, values(6, 4, 3, 2), auto_pad=name, strides=[stride, 3])
        for name in ("SAME_UPPER", "SAME_LOWER", "VALID")
        for stride in (1, 2)
    ),
    _transposed("1-d", SEQUENCE, values(4, 3, 4), strides=[2], pads=[1, 1]),
    _transposed("uneven", SEQUENCE, values(4, 3, 4), strides=[3], pads=[0, 2], group=2),
    _transposed("extra", PICTURE, values(4, 3, 3, 2), strides=[2, 2], output_padding=[1, 0]),
    _transposed("dilated", PICTURE, values(4, 3, 3, 2), dilations=[2, 1]),
    _transposed("SAME_UPPER", SEQUENCE, values(4, 3, 4), strides=[3], auto_pad="SAME_UPPER"),
    _transposed("SAME_LOWER", SEQUENCE, values(4, 3, 4), strides=[3], auto_pad="SAME_LOWER"),
    _transposed("shape", SEQUENCE, values(4, 3, 4), strides=[2], output_shape=[21]),
    *(
        Case(op, (x,), (), attributes, opset=opset, test=f" {opset} {test}")
        for op in ("MaxPool", "AveragePool")
        for opset in (13, 20)
        for test, x, attributes in (
            ("1-d", SEQUENCE, {"kernel_shape": [3], "strides": [2]}),
            ("2-d", PICTURE, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
            ("3-d", VOLUME, {"kernel_shape": [2, 3, 1]}),
            ("upper", SEQUENCE, {"kernel_shape": [4], "strides": [3], "auto_pad": "SAME_UPPER"}),
            ("lower", SEQUENCE, {"kernel_shape": [4], "strides": [3], "auto_pad": "SAME_LOWER"}),
            ("ceil", PICTURE, {"kernel_shape": [2, 3], "strides": [2, 3], "ceil_mode": 1}),
            ("ends", SEQUENCE, {"kernel_shape": [2], "strides": [4], "ceil_mode": 1}),
            (
                "ceil and pads",
                SEQUENCE,
                {"kernel_shape": [4], "strides": [4], "pads": [1, 2], "ceil_mode": 1},
            ),
        )
    ),
    Case("MaxPool", (SEQUENCE,), (), {"kernel_shape": [3], "dilations": [3]}, test=" dilated"),
    *(
        Case(
            "AveragePool",
            (SEQUENCE,),
            (),
            {"kernel_shape": [4], "strides": [3], "pads": [2, 1], "count_include_pad": 1, **more},
            opset=20,
            test=f" counts pads {len(more)}",
        )
        for more in ({}, {"ceil_mode": 1})
    ),
    Case("GlobalAveragePool", (PICTURE,)),
    Case("GlobalMaxPool", (SEQUENCE,)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnx_runtime(case):
    check(case)
