"""Torch modules of the blocks with attention: encoders and a decoder-only language model."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 64
"""Channels of one attention head; narrow models have two heads."""


class Attention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(2, width // HEAD)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Returns (batch, steps, width); ``mask`` (batch, steps) is true where a step counts."""
        parts = (self.query(x), self.key(x), self.value(x))
        query, key, value = (p.unflatten(2, (self.heads, -1)).transpose(1, 2) for p in parts)
        seen = None if mask is None else mask[:, None, None, :]
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, is_causal=causal
        )
        return self.out(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention and a feed-forward network of four times the width, with residuals."""

    def __init__(self, width: int, activation: Callable[[Tensor], Tensor], *, pre: bool) -> None:
        super().__init__()
        self.attention = Attention(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.activation, self.pre = activation, pre

    def forward(self, x: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Returns (batch, steps, width), normed before (``pre``) or after each part."""
        first, second = self.norms
        if self.pre:
            x = x + self.attention(first(x), mask, causal=causal)
            return x + self._feed_forward(second(x))
        x = first(x + self.attention(x, mask, causal=causal))
        return second(x + self._feed_forward(x))  # type: ignore[no-any-return]

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.narrow(self.activation(self.wide(x)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Encoder layers on event vectors; returns all steps, as a later head or pooling reads them."""

    def __init__(self, width: int, layers: int, *, pre: bool = False) -> None:
        super().__init__()
        activation = functional.relu if pre else functional.gelu
        self.layers = nn.ModuleList(Layer(width, activation, pre=pre) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns float32 (batch, steps, width) for ``x`` of that shape."""
        for layer in self.layers:
            x = layer(x, mask)
        return x


class Decoder(nn.Module):
    """A causal language model whose output layer is its embedding table."""

    def __init__(self, tokens: int, width: int, layers: int, steps: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(tokens, width), nn.Embedding(steps, width)
        self.layers = nn.ModuleList(Layer(width, functional.gelu, pre=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the logits of the next token, float32 (batch, vocabulary)."""
        width = self.embedding.embedding_dim
        steps = torch.arange(tokens.shape[1], device=tokens.device)
        x = math.sqrt(width) * (self.embedding(tokens) + self.positions(steps))
        for layer in self.layers:
            x = layer(x, causal=True)
        return functional.linear(self.norm(x[:, -1]), self.embedding.weight)
