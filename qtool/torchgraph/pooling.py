"""Pooling: the largest value or the mean of a sliding window, or of the whole input.

Source: the ONNX operator specifications, opsets 11 to 22.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import Builder, Operator, attribute, plain, refused
from qtool.torchgraph.windows import Pads, Window, padded, window

_MAX = {3: functional.max_pool1d, 4: functional.max_pool2d, 5: functional.max_pool3d}
_AVERAGE = {3: functional.avg_pool1d, 4: functional.avg_pool2d, 5: functional.avg_pool3d}
"""By the rank of the input: rows, channels and the spatial axes."""


def _max_pool(node: ir.Node) -> Operator:
    kernel, slides = tuple(attribute(node, "kernel_shape", ())), window(node)
    ceil_mode = bool(attribute(node, "ceil_mode", 0))

    def max_pool(x: Tensor) -> Tensor:
        strides, dilations = slides.steps(len(kernel))
        pads = slides.padding(x.shape[2:], kernel)
        pads = _reached(x, pads, kernel, slides) if ceil_mode else pads
        x = padded(x, pads, -math.inf)
        return _MAX[x.ndim](x, kernel, strides, 0, dilations)

    return max_pool


def _average_pool(node: ir.Node) -> Operator:
    kernel, slides = tuple(attribute(node, "kernel_shape", ())), window(node)
    ceil_mode = bool(attribute(node, "ceil_mode", 0))
    counts_pads = bool(attribute(node, "count_include_pad", 0))
    if any(dilation != 1 for dilation in slides.dilations or ()):
        raise refused(node, f"dilations {slides.dilations}", "1 on every axis")

    def average_pool(x: Tensor) -> Tensor:
        strides, _ = slides.steps(len(kernel))
        pads = slides.padding(x.shape[2:], kernel)
        reached = _reached(x, pads, kernel, slides) if ceil_mode else pads
        pool = _AVERAGE[x.ndim]
        means = pool(padded(x, reached), kernel, strides)
        if reached == (pads if counts_pads else ((0, 0),) * len(pads)):
            return means
        # Divided by the counted share of each window, instead of by all of it.
        counted = padded(torch.ones_like(x[:1, :1]), pads, float(counts_pads))
        beyond = tuple((0, r[1] - p[1]) for r, p in zip(reached, pads, strict=True))
        return means / pool(padded(counted, beyond), kernel, strides)

    return average_pool


def _reached(x: Tensor, pads: Pads, kernel: tuple[int, ...], slides: Window) -> Pads:
    """Returns the padding with which whole windows cover what ``ceil_mode`` covers.

    The last window must start inside the input or the padding before it.
    """
    found = []
    steps = zip(pads, x.shape[2:], kernel, *slides.steps(len(kernel)), strict=True)
    for (before, after), size, length, stride, dilation in steps:
        extent = dilation * (length - 1) + 1
        last = -(-(size + before + after - extent) // stride)
        if last * stride >= size + before:
            last -= 1
        found.append((before, last * stride + extent - size - before))
    return tuple(found)


def _global(reduce: Callable[..., Tensor]) -> Builder:
    return plain(lambda x: reduce(x, dim=tuple(range(2, x.ndim)), keepdim=True))


POOLING: dict[str, Builder] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "MaxPool": _max_pool,
}
