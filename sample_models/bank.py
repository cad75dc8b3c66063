"""Deposit campaigns: who takes the offer when called, from people, contacts and the economy.

Embeddings of the categorical columns beside scaled numbers, then residual blocks of two dense
layers, the ResNet of Gorishniy et al. 2021 (arXiv 2106.11959) without normalization: with a few
tens of thousands of calls dropout regularises as well, and in INT8 whole blocks stay on codes.

It returns one logit per call; sigmoid of it is the probability of a deposit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Returns x + Linear(ReLU(Linear(x)))."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, width) for ``x`` of that shape."""
        change = self.down(self.dropout(torch.relu(self.up(x))))
        result: Tensor = x + self.dropout(change)
        return result


class BankNet(nn.Module):
    """Numeric columns and embeddings into residual blocks; see ``build``."""

    def __init__(
        self,
        numbers: int,
        cardinalities: list[int],
        embedding: int,
        width: int,
        hidden: list[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, embedding) for rows in cardinalities)
        self.stem = nn.Linear(numbers + embedding * len(cardinalities), width)
        self.blocks = nn.Sequential(*(Block(width, wide, dropout) for wide in hidden))
        self.score = nn.Linear(width, 1)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Returns logits of shape (batch,).

        Args:
            numbers: float32 (batch, numeric columns), scaled.
            categories: int64 (batch, categorical columns), codes.
        """
        parts = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        x = self.blocks(torch.relu(self.stem(torch.cat([numbers, *parts], dim=1))))
        logits: Tensor = self.score(x).squeeze(1)
        return logits


def build(
    inputs: dict[str, dict[str, list[int]]],
    width: int = 256,
    hidden: list[int] | None = None,
    embedding: int = 6,
    dropout: float = 0.3,
) -> nn.Module:
    """Returns an untrained campaign model.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``numbers`` and ``categories``.
        width: between the blocks.
        hidden: widths within each block.
        embedding: width of each embedding.
        dropout: share of units dropped in training.
    """
    return BankNet(
        numbers=inputs["numbers"]["shape"][0],
        cardinalities=inputs["categories"]["cardinalities"],
        embedding=embedding,
        width=width,
        hidden=hidden or [512, 512, 512],
        dropout=dropout,
    )
