"""Card-fraud detection: embeddings beside numeric features, then a wide batch-normed MLP.

The architecture is the usual tabular baseline of the literature: categorical columns as entity
embeddings (Guo and Berkhahn 2016, arXiv 1604.06737) joined with scaled numeric columns, then blocks
of Linear → BatchNorm → ReLU → Dropout (the MLP of Gorishniy et al. 2021, arXiv 2106.11959). Without
categorical columns it is a plain wide MLP.

It returns one logit per transaction; sigmoid of it is the fraud score.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class FraudNet(nn.Module):
    """Embeddings, numeric columns and a wide MLP; see ``build``."""

    def __init__(
        self,
        numeric: int,
        cardinalities: list[int],
        embedding: int,
        hidden: list[int],
        dropout: float,
    ) -> None:
        super().__init__()
        tables = [nn.Embedding(rows, embedding) for rows in cardinalities]
        for table in tables:
            # The default unit variance would drown the numeric columns at the start.
            nn.init.normal_(table.weight, std=0.1)
        self.embeddings = nn.ModuleList(tables)
        widths = [numeric + embedding * len(cardinalities), *hidden]
        blocks: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            blocks += [nn.Linear(width, next_width), nn.BatchNorm1d(next_width), nn.ReLU()]
            blocks += [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, numeric: Tensor, categorical: Tensor | None = None) -> Tensor:
        """Returns logits of shape (batch,).

        Args:
            numeric: float32 (batch, numeric columns), scaled.
            categorical: int64 (batch, categorical columns), codes.
        """
        parts = [numeric]
        if categorical is not None:
            parts += [table(categorical[:, i]) for i, table in enumerate(self.embeddings)]
        logits: Tensor = self.head(self.body(torch.cat(parts, dim=1))).squeeze(1)
        return logits


def build(
    inputs: dict[str, dict[str, list[int]]],
    hidden: list[int] | None = None,
    embedding: int = 8,
    dropout: float = 0.1,
) -> nn.Module:
    """Returns an untrained fraud model.

    Args:
        inputs: filled in by qtool from the encoder: ``{"numeric": {"shape": [columns]},
            "categorical": {"shape": [columns], "cardinalities": [...]}}``.
        hidden: widths of the hidden layers.
        embedding: width of each embedding.
        dropout: share of hidden units dropped in training.
    """
    return FraudNet(
        numeric=inputs["numeric"]["shape"][0],
        cardinalities=inputs.get("categorical", {}).get("cardinalities", []),
        embedding=embedding,
        hidden=hidden or [512, 512, 512],
        dropout=dropout,
    )
