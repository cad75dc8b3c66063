"""Credit scoring: probability of default from repayment history, bills and demographics.

A multilayer perceptron on scaled amounts beside embeddings of the categorical columns, the network
that tabular benchmarks measure others by (Gorishniy et al. 2021, arXiv 2106.11959). No batch norm:
with a few tens of thousands of clients dropout regularises as well, and the training graph stays
the deployed one.

It returns one logit per client; sigmoid of it is the probability of default (PD).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class CreditNet(nn.Module):
    """Numeric columns and embeddings into an MLP; see ``build``."""

    def __init__(
        self,
        amounts: int,
        cardinalities: list[int],
        embedding: int,
        hidden: list[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(rows, embedding) for rows in cardinalities)
        widths = [amounts + embedding * len(cardinalities), *hidden]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        self.score = nn.Linear(widths[-1], 1)

    def forward(self, amounts: Tensor, status: Tensor | None = None) -> Tensor:
        """Returns logits of shape (batch,).

        Args:
            amounts: float32 (batch, numeric columns), scaled.
            status: int64 (batch, categorical columns), codes.
        """
        parts = [amounts]
        if status is not None:
            parts += [table(status[:, i]) for i, table in enumerate(self.tables)]
        logits: Tensor = self.score(self.hidden(torch.cat(parts, dim=1))).squeeze(1)
        return logits


def build(
    inputs: dict[str, dict[str, list[int]]],
    hidden: list[int] | None = None,
    embedding: int = 6,
    dropout: float = 0.2,
) -> nn.Module:
    """Returns an untrained credit model.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``amounts`` and, if the data has any,
            ``status``.
        hidden: widths of the hidden layers.
        embedding: width of each embedding.
        dropout: share of hidden units dropped in training.
    """
    return CreditNet(
        amounts=inputs["amounts"]["shape"][0],
        cardinalities=inputs.get("status", {}).get("cardinalities", []),
        embedding=embedding,
        hidden=hidden or [512, 512, 512],
        dropout=dropout,
    )
