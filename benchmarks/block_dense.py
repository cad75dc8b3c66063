"""Torch modules of the blocks that read one row at a time: MLPs, embeddings, towers, DLRM."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Mlp(nn.Module):
    """Dense layers with an activation, and a normalization if one is given, between them."""

    def __init__(
        self,
        widths: list[int],
        activation: Callable[[], nn.Module],
        norm: Callable[[int], nn.Module] = lambda width: nn.Identity(),
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise(widths[:-1]):
            layers += [nn.Linear(before, width), norm(width), activation()]
        self.body = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (..., last width) for ``x`` of (..., first width)."""
        return self.body(x)  # type: ignore[no-any-return]


class ResidualMlp(nn.Module):
    """Blocks x + Linear(ReLU(Linear(x)))."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(inputs, width), nn.Linear(width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, inputs)."""
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x)  # type: ignore[no-any-return]


class EmbeddingMlp(nn.Module):
    """Many tables beside numeric columns, then dense layers."""

    def __init__(self, tables: int, size: int, width: int, numeric: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for _ in range(tables))
        self.body = Mlp([tables * width + numeric, 512, 256, 1], nn.ReLU)

    def forward(self, codes: Tensor, numeric: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for int64 (batch, tables) and float32 (batch, numeric)."""
        rows = [table(codes[:, index]) for index, table in enumerate(self.tables)]
        return self.body(torch.cat([*rows, numeric], 1))  # type: ignore[no-any-return]


class Dlrm(nn.Module):
    """Pairwise dot products of embeddings (Naumov et al. 2019, arXiv 1906.00091)."""

    def __init__(self, tables: int, size: int, width: int, numeric: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, width) for _ in range(tables))
        self.bottom = Mlp([numeric, 256, width], nn.ReLU)
        pairs = (tables + 1) * tables // 2
        self.top = Mlp([pairs + width, 512, 256, 1], nn.ReLU)
        first, second = np.triu_indices(tables + 1, 1)
        self.pairs: Tensor
        self.register_buffer("pairs", torch.from_numpy(first * (tables + 1) + second))

    def forward(self, codes: Tensor, numeric: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for int64 (batch, tables) and float32 (batch, numeric)."""
        dense = self.bottom(numeric)
        rows = [table(codes[:, index]) for index, table in enumerate(self.tables)]
        stacked = torch.stack([dense, *rows], 1)
        products = (stacked @ stacked.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([dense, products[:, self.pairs]], 1))  # type: ignore[no-any-return]


class TwoTower(nn.Module):
    """Customer and product towers, normalized, and their cosine."""

    def __init__(self, customers: int, products: int, width: int, hidden: int) -> None:
        super().__init__()
        self.customer_table = nn.Embedding(customers, width)
        self.product_table = nn.Embedding(products, width)
        self.customer = Mlp([width + 16, hidden, hidden, width], nn.ReLU)
        self.product = Mlp([width + 16, hidden, hidden, width], nn.ReLU)

    def forward(self, codes: Tensor, customer: Tensor, product: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for int64 (batch, 2) and two float32 (batch, 16)."""
        left = self.customer(torch.cat([self.customer_table(codes[:, 0]), customer], 1))
        right = self.product(torch.cat([self.product_table(codes[:, 1]), product], 1))
        both = functional.normalize(left, dim=1) * functional.normalize(right, dim=1)
        return both.sum(1, keepdim=True)
