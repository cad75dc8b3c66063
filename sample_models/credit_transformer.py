"""Credit scoring: each column of an application is a token that attends to the others.

The FT-Transformer of Gorishniy et al. 2021 (arXiv 2106.11959, section 3.3): a feature tokenizer
makes a vector of each number (its value times a learned vector, plus another) and of each category
(a row of a table); a [CLS] token joins them; pre-norm Transformer layers follow, and the normed
[CLS] token is the score. Changes: the layers of ``retrieval.py``, with GELU for ReGLU and biases in
attention; two layers for three, as a few tens of thousands of clients need no more.

It returns one logit per client; sigmoid of it is the probability of default (PD).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sample_models.retrieval import Layer


class CreditTransformer(nn.Module):
    """Columns as tokens into a Transformer; see ``build``."""

    def __init__(
        self,
        amounts: int,
        cardinalities: list[int],
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        bound = width**-0.5
        # The first is that of [CLS], whose number is 0.
        self.slopes = nn.Parameter(torch.empty(1 + amounts, width).uniform_(-bound, bound))
        tables = [nn.Embedding(rows, width) for rows in cardinalities]
        for table in tables:
            nn.init.uniform_(table.weight, -bound, bound)
        self.tables = nn.ModuleList(tables)
        # Of the [CLS] token and of every column.
        tokens = 1 + amounts + len(cardinalities)
        self.offsets = nn.Parameter(torch.empty(tokens, width).uniform_(-bound, bound))
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers - 1))
        self.last = Layer(width, heads)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)
        self.score = nn.Linear(width, 1)

    def forward(self, amounts: Tensor, status: Tensor) -> Tensor:
        """Returns logits of shape (batch,).

        Args:
            amounts: float32 (batch, numeric columns), scaled.
            status: int64 (batch, categorical columns), codes.
        """
        numbers = functional.pad(amounts, (1, 0))[:, :, None] * self.slopes
        codes = [table(status[:, i])[:, None] for i, table in enumerate(self.tables)]
        x = torch.cat([numbers, *codes], dim=1) + self.offsets
        x = self.dropout(x)
        for layer in self.layers:
            x = layer(x)
        # Of the last layer only [CLS] is read.
        query, key, value = self.last.projections(x)
        x = self.last.mixed(x[:, :1], query[:, :, :1], key, value)
        logits: Tensor = self.score(self.dropout(torch.relu(self.norm(x[:, 0])))).squeeze(1)
        return logits


def build(
    inputs: dict[str, dict[str, list[int]]],
    width: int = 192,
    layers: int = 2,
    heads: int = 8,
    dropout: float = 0.1,
) -> nn.Module:
    """Returns an untrained credit model.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``amounts`` and ``status``.
        width: of a token.
        layers: of the Transformer.
        heads: of each layer.
        dropout: share of the numbers of tokens and of the read-out dropped in training.
    """
    return CreditTransformer(
        amounts=inputs["amounts"]["shape"][0],
        cardinalities=inputs["status"]["cardinalities"],
        width=width,
        layers=layers,
        heads=heads,
        dropout=dropout,
    )
