"""Text of finance, token by token: a decoder-only Transformer with a cache of keys and values.

GPT-2's architecture (Radford et al. 2019, "Language models are unsupervised multitask learners"):
pre-norm layers of causal self-attention and GELU, learned positions. Changes: it is small, has no
dropout, and its last layer has weights and a bias of its own, so that the table of tokens can be
stored as int8 rows beside a head of 4 bits.

The cache is in the graph: ``past_key_0``, ``past_value_0`` and so on go in, each (batch, heads,
past, width / heads), and come out as ``present_key_0``, … with the new tokens behind the old. A
text starts with an empty cache, and so do training and evaluation; to generate, each call takes one
token and what the last one returned.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sample_models.retrieval import Layer

HIDDEN = -1e4
"""Added to the score of a token that comes later."""


class LanguageModel(nn.Module):
    """Tokens into logits of the next token; see ``build``."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        for weight in (self.table.weight, self.positions.weight, self.head.weight):
            nn.init.normal_(weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor, **past: Tensor) -> dict[str, Tensor]:
        """Returns ``logits`` float32 (batch, steps, vocabulary), and the cache for the next call.

        Args:
            tokens: int64 (batch, steps).
            past: ``past_key_0``, ``past_value_0``, … of every layer, float32 (batch, heads, past,
                width / heads); past + steps is at most the context.
        """
        steps, before = tokens.shape[1], past["past_key_0"].shape[2]
        every = torch.arange(before + steps, device=tokens.device)
        places = every[before:]
        later = every > places[:, None]
        bias = torch.where(later, HIDDEN, 0.0)
        x = self.table(tokens) + self.positions(places)
        present: dict[str, Tensor] = {}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            query, *new = layer.projections(x)
            key, value = (
                torch.cat([past[f"past_{name}_{index}"], part], dim=2)
                for name, part in zip(("key", "value"), new, strict=True)
            )
            x = layer.mixed(x, query, key, value, bias)
            present |= {f"present_key_{index}": key, f"present_value_{index}": value}
        return {"logits": self.head(self.norm(x)), **present}


def build(inputs: dict[str, dict[str, list[int]]], vocabulary: int = 4096) -> nn.Module:
    """Returns an untrained language model, of the layers, heads and width that its caches have.

    Args:
        inputs: filled in by qtool from the encoder; ``tokens``, whose steps are the context, and
            ``past_key_0``, ``past_value_0``, … of (heads, 0, width / heads).
        vocabulary: numbers of tokens, padding included.
    """
    heads, _, size = inputs["past_key_0"]["shape"]
    return LanguageModel(
        vocabulary=vocabulary,
        context=inputs["tokens"]["shape"][0],
        width=heads * size,
        layers=sum(name.startswith("past_key_") for name in inputs),
        heads=heads,
    )
