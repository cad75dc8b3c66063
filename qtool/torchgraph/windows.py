"""Paddings of the operators that slide a window: convolutions and pooling.

Source: the ONNX operator specifications of Conv and MaxPool (attributes ``pads``, ``auto_pad``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import attribute

Pads = tuple[tuple[int, int], ...]
"""Elements before and after each spatial axis."""


class Window(NamedTuple):
    """What the node says of its window; None and "" where it leaves that to the rank or shape."""

    strides: tuple[int, ...] | None
    dilations: tuple[int, ...] | None
    pads: tuple[int, ...] | None
    auto_pad: str

    def steps(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns strides and dilations of ``rank`` spatial axes."""
        return self.strides or (1,) * rank, self.dilations or (1,) * rank

    def padding(self, sizes: Sequence[int], kernel: Sequence[int]) -> Pads:
        """Returns the padding of every spatial axis.

        Args:
            sizes: of the input's spatial axes.
            kernel: of the window, same length.
        """
        rank = len(kernel)
        if not self.auto_pad.startswith("SAME"):
            pads = self.pads or (0,) * (2 * rank)
            return tuple(zip(pads[:rank], pads[rank:], strict=True))
        strides, dilations = self.steps(rank)
        totals = [
            max((-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size, 0)
            for size, length, stride, dilation in zip(
                sizes, kernel, strides, dilations, strict=True
            )
        ]
        return same(totals, self.auto_pad)


def window(node: ir.Node) -> Window:
    """Returns the attributes of a node that slides a window."""
    lists = (attribute(node, name, None) for name in ("strides", "dilations", "pads"))
    strides, dilations, pads = (None if found is None else tuple(found) for found in lists)
    return Window(strides, dilations, pads, attribute(node, "auto_pad", "NOTSET"))


def same(totals: Sequence[int], auto_pad: str) -> Pads:
    """Returns the two sides of each total; SAME_UPPER gives the odd element to the end."""
    if auto_pad == "SAME_LOWER":
        return tuple((total - total // 2, total // 2) for total in totals)
    return tuple((total // 2, total - total // 2) for total in totals)


def is_even(pads: Pads) -> bool:
    """Returns whether all paddings are the same on both sides, which torch computes faster."""
    return all(before == after for before, after in pads)


def padded(x: Tensor, pads: Pads, value: float = 0.0) -> Tensor:
    """Returns ``x`` with its spatial axes padded, or cut where a padding is negative."""
    flat = [length for before_after in reversed(pads) for length in before_after]
    return functional.pad(x, flat, value=value) if any(flat) else x
