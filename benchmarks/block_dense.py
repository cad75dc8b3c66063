"""Torch modules of the blocks that read one row at a time: MLPs, embeddings, towers, DLRM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

Activation = Callable[[int], nn.Module]
"""Width → what follows a linear layer of that width."""


class Mlp(nn.Module):
    """Linear layers, each but the last followed by an activation; works on any rank."""

    def __init__(
        self, widths: list[int], activation: Activation = lambda width: nn.ReLU()
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths[:-1]):
            layers += [nn.Linear(width, next_width), activation(next_width)]
        self.layers = nn.Sequential(*layers, nn.Linear(*widths[-2:]))

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (..., last width) for ``x`` of (..., first width)."""
        return self.layers(x)  # type: ignore[no-any-return]


class ResidualMlp(nn.Module):
    """One linear layer, then blocks x + relu(linear(x)), and one output."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, inputs)."""
        x = self.first(x).relu()
        for block in self.blocks:
            x = x + block(x).relu()
        return self.last(x)  # type: ignore[no-any-return]


class EmbeddingMlp(nn.Module):
    """One embedding table per categorical column, beside the amounts, into an MLP."""

    def __init__(self, tables: int, rows: int, width: int, amounts: int, hidden: list[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))
        self.mlp = Mlp([amounts + tables * width, *hidden])

    def forward(self, amounts: Tensor, codes: Tensor) -> Tensor:
        """Returns the MLP's output for float32 (batch, amounts) and int64 (batch, tables)."""
        parts = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        return self.mlp(torch.cat([amounts, *parts], dim=1))  # type: ignore[no-any-return]


class TwoTower(nn.Module):
    """A client tower and a product tower; the score is the dot product of what they return."""

    def __init__(self, client: EmbeddingMlp, product: EmbeddingMlp) -> None:
        super().__init__()
        self.client, self.product = client, product

    def forward(
        self, client: Tensor, client_codes: Tensor, product: Tensor, product_codes: Tensor
    ) -> Tensor:
        """Returns float32 (batch, 1)."""
        both = self.client(client, client_codes) * self.product(product, product_codes)
        return both.sum(dim=1, keepdim=True)


class Dlrm(nn.Module):
    """Pairwise dot products of embeddings and amounts, into an MLP (arXiv 1906.00091)."""

    def __init__(self, tables: int, rows: int, width: int, amounts: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in range(tables))
        self.bottom = Mlp([amounts, 256, width])
        self.top = Mlp([width + tables * (tables + 1) // 2, 512, 256, 1])
        pairs = torch.tril_indices(tables + 1, tables + 1, offset=-1)
        self.register_buffer("pairs", pairs[0] * (tables + 1) + pairs[1])

    def forward(self, amounts: Tensor, codes: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for float32 (batch, amounts) and int64 (batch, tables)."""
        dense = self.bottom(amounts).relu()
        parts = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        vectors = torch.stack([dense, *parts], dim=1)
        products = (vectors @ vectors.transpose(1, 2)).flatten(1)[:, self.pairs]
        return self.top(torch.cat([dense, products], dim=1))  # type: ignore[no-any-return]
