"""Convolutions of one, two and three spatial axes.

Source: the ONNX operator specifications, opsets 11 to 22.
"""

from __future__ import annotations

import onnx_ir as ir
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import Builder, Operator, attribute
from qtool.torchgraph.windows import is_even, padded, same, window

_CONV = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}
_CONV_TRANSPOSE = {
    3: functional.conv_transpose1d,
    4: functional.conv_transpose2d,
    5: functional.conv_transpose3d,
}
"""By the rank of the input: rows, channels and the spatial axes."""


def _conv(node: ir.Node) -> Operator:
    slides, group = window(node), attribute(node, "group", 1)

    def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        strides, dilations = slides.steps(x.ndim - 2)
        pads = slides.padding(x.shape[2:], weight.shape[2:])
        even = is_even(pads)
        x = x if even else padded(x, pads)
        padding = tuple(before for before, _ in pads) if even else 0
        return _CONV[x.ndim](x, weight, bias, strides, padding, dilations, group)

    return conv


def _conv_transpose(node: ir.Node) -> Operator:
    slides, group = window(node), attribute(node, "group", 1)
    extra, wanted = attribute(node, "output_padding", 0), attribute(node, "output_shape", None)

    def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        strides, dilations = slides.steps(x.ndim - 2)
        pads = slides.padding(x.shape[2:], weight.shape[2:])
        shaped = wanted is not None or slides.auto_pad.startswith("SAME")
        even = is_even(pads) and not shaped
        padding = tuple(before for before, _ in pads) if even else 0
        y = _CONV_TRANSPOSE[x.ndim](x, weight, bias, strides, padding, extra, group, dilations)
        if even:
            return y
        if shaped:
            # What the whole result has too much is cut like a padding.
            sizes = wanted or [s * stride for s, stride in zip(x.shape[2:], strides, strict=True)]
            totals = [has - size for has, size in zip(y.shape[2:], sizes, strict=True)]
            upper = slides.auto_pad == "SAME_UPPER"
            pads = same(totals, "SAME_UPPER" if upper else "SAME_LOWER")
        return padded(y, tuple((-before, -after) for before, after in pads))

    return conv_transpose


CONVOLUTION: dict[str, Builder] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
