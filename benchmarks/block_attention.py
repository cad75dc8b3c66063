"""Torch modules of the blocks with attention: encoders and a decoder-only language model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns (batch, steps, width); ``mask`` is added to the scores."""
        batch, steps, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = query @ key.transpose(2, 3) * (width // self.heads) ** -0.5
        if mask is not None:
            scores = scores + mask
        mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2)
        return self.out(mixed.reshape(batch, steps, width))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Attention and feed-forward, normalized after (or before) each."""

    def __init__(self, width: int, heads: int, activation: str, *, pre_norm: bool) -> None:
        super().__init__()
        self.attention, self.pre_norm = Attention(width, heads), pre_norm
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.activation = getattr(functional, activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns (batch, steps, width) for ``x`` of that shape."""
        if self.pre_norm:
            x = x + self.attention(self.norm1(x), mask)
            return x + self.down(self.activation(self.up(self.norm2(x))))  # type: ignore[no-any-return]
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.down(self.activation(self.up(x))))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A stack of encoder layers; returns every step."""

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        activation: str = "gelu",
        *,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, activation, pre_norm=pre_norm) for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, steps, width) for ``x`` of that shape."""
        for layer in self.layers:
            x = layer(x)
        return x


class MaskedEncoder(nn.Module):
    """The same, with a padding mask (1 real, 0 padding) and a mean over the real steps."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, "gelu", pre_norm=False) for _ in range(layers)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Returns float32 (batch, width) for (batch, steps, width) and int64 (batch, steps)."""
        bias = (1 - mask.to(torch.float32))[:, None, None, :] * -1e4
        for layer in self.layers:
            x = layer(x, bias)
        real = mask.to(torch.float32)[:, :, None]
        return (x * real).sum(1) / real.sum(1)


class TorchEncoder(nn.Module):
    """torch's own encoder layers, whose export packs query, key and value."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, batch_first=True, activation="gelu", dropout=0.0
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, steps, width) for ``x`` of that shape."""
        return self.encoder(x)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """A causal language model with tied embeddings: logits of every position."""

    def __init__(self, vocabulary: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, "gelu", pre_norm=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        nn.init.normal_(self.table.weight, std=0.02)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns float32 (batch, steps, vocabulary) for int64 (batch, steps)."""
        steps = tokens.shape[1]
        causal = torch.triu(torch.full((steps, steps), -1e4), diagonal=1)
        x = self.table(tokens)
        for layer in self.layers:
            x = layer(x, causal)
        return self.head(self.norm(x))  # type: ignore[no-any-return]
