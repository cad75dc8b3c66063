"""Activations that integer kernels quantize themselves, from what they see in one call.

The gradient passes straight through, and the range gets none: it is a function of the two extreme
values, whose share would be a sum of rounding errors, noise with mean zero on single values.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from qtool.torchgraph.fake_quant import in_blocks

UINT8_MAX = 255.0
INT8_MAX = 127.0


def dynamic_quantize(x: Tensor) -> Tensor:
    """Returns ``x`` as DynamicQuantizeMatMul and DynamicQuantizeLSTM of ONNX Runtime 1.31 see it.

    uint8 codes with one scale for the whole tensor: scale = (max(x, 0) - min(x, 0)) / 255 (1 for a
    tensor of zeros), zero point = round_half_even(-min / scale), code = round_half_even(x / scale)
    + zero point, saturated.

    Args:
        x: float32, any shape, the whole batch.

    Source: ONNX operator DynamicQuantizeLinear, opset 11; bit-equal to ONNX Runtime 1.31.
    """
    return with_scale(x)[0]


def with_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns what ``dynamic_quantize`` does, and the scale (), which has no gradient."""
    return cast(tuple[Tensor, Tensor], _DynamicQuantize.apply(x))  # type: ignore[no-untyped-call]


def quantize_row_blocks(x: Tensor, block: int) -> Tensor:
    """Returns ``x`` as MatMulNBits with accuracy level 4 sees it.

    int8 codes with one scale for each ``block`` numbers of a row: scale = max|x| / 127, code =
    round_half_even(x * (127 / max|x|)).

    Args:
        x: float32 (..., K); the last block may be shorter.
        block: numbers that share one scale.

    Source: MLAS SQNBitGemm, CompInt8, of ONNX Runtime 1.31; read back from the kernel with unit
    matrices for 4 and 8 bits, blocks of 16 to 256, 1 to 64 rows: all codes equal.
    """
    return cast(Tensor, _RowBlocks.apply(x, block))  # type: ignore[no-untyped-call]


def uint8_codes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns codes minus zero point, and the scale (): what ``dynamic_quantize`` multiplies."""
    low, high = torch.aminmax(x)
    low = low.clamp(max=0.0)
    # The smallest normal number keeps a tensor of zeros from dividing by zero.
    scale = ((high.clamp(min=0.0) - low) / UINT8_MAX).clamp(min=torch.finfo(x.dtype).tiny)
    zero_point = (low / scale).round().neg()
    codes = (x / scale).round_().add_(zero_point).clamp_(0.0, UINT8_MAX)
    return codes.sub_(zero_point), scale


class _DynamicQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        codes, scale = uint8_codes(x)
        ctx.mark_non_differentiable(scale)
        return codes.mul_(scale), scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class _RowBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, block: int) -> Tensor:
        blocks = in_blocks(x, block, axis=x.ndim - 1)
        largest = blocks.abs().amax(dim=-1, keepdim=True)
        # Rows of zeros have the codes 0 whatever the factor is.
        per_step = INT8_MAX / torch.where(largest == 0, 1.0, largest)
        codes = (blocks * per_step).round_()
        return codes.mul_(largest / INT8_MAX).flatten(-2)[..., : x.shape[-1]]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
