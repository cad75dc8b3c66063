"""Attention and rotary positions as single operators.

Source: the ONNX operator specifications of Attention and RotaryEmbedding, opset 23.
"""

from __future__ import annotations

import math

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import Builder, Operator, attribute, refused

RANK_3 = 3
"""Rank of rows without an axis of heads."""
SCORES = 3
"""Position of the output that holds the scores."""


def _attention(node: ir.Node) -> Operator:
    if len(node.outputs) > SCORES and node.outputs[SCORES].uses():
        raise refused(node, "the output qk_matmul_output is used", "the first three outputs")
    heads, kv_heads = (attribute(node, f"{name}_num_heads", 0) for name in ("q", "kv"))
    scale, softcap = attribute(node, "scale", None), attribute(node, "softcap", 0.0)
    causal = bool(attribute(node, "is_causal", 0))

    def attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_k: Tensor | None = None,
        past_v: Tensor | None = None,
    ) -> tuple[Tensor | None, ...]:
        merged = q.ndim == RANK_3
        if merged:
            q, k, v = _split_heads(q, heads), _split_heads(k, kv_heads), _split_heads(v, kv_heads)
        k = k if past_k is None else torch.cat([past_k, k], dim=2)
        v = v if past_v is None else torch.cat([past_v, v], dim=2)
        y = _weighted(q, k, v, _bias(q, k, mask, causal), scale, softcap)
        y = y.transpose(1, 2).flatten(2) if merged else y
        return (y, k, v, None)[: len(node.outputs)]

    return attention


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _bias(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """Returns what is added to the scores: the mask, and -inf above the diagonal."""
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    if not causal:
        return mask
    allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    upper = torch.zeros_like(allowed, dtype=q.dtype).masked_fill(~allowed, -math.inf)
    return upper if mask is None else mask + upper


def _weighted(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float | None, softcap: float
) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if not softcap:
        return functional.scaled_dot_product_attention(
            q, k, v, bias, scale=scale, enable_gqa=grouped
        )
    if grouped:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(2, 3) * (1 / math.sqrt(q.shape[3]) if scale is None else scale)
    scores = softcap * torch.tanh(scores / softcap)
    return functional.softmax(scores if bias is None else scores + bias, dim=-1) @ v


def _rotary_embedding(node: ir.Node) -> Operator:
    heads, interleaved = attribute(node, "num_heads", 0), attribute(node, "interleaved", 0)
    width = attribute(node, "rotary_embedding_dim", 0)

    def rotate(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
        merged = x.ndim == RANK_3
        y = _split_heads(x, heads) if merged else x
        turned, kept = y.tensor_split((width or y.shape[3],), dim=3)
        if positions is not None:
            cos, sin = cos[positions], sin[positions]
        cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
        if interleaved:
            a, b = turned[..., 0::2], turned[..., 1::2]
            turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(3)
        else:
            a, b = turned.chunk(2, dim=3)
            turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)
        y = torch.cat([turned, kept], dim=3)
        return y.transpose(1, 2).flatten(2) if merged else y

    return rotate


ATTENTION: dict[str, Builder] = {
    "Attention": _attention,
    "RotaryEmbedding": _rotary_embedding,
}
