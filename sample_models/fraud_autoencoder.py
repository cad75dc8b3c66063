"""Fraud without labels: how badly an autoencoder of legitimate payments rebuilds a payment.

A replicator network (Hawkins, He, Williams and Baxter 2002, "Outlier detection using replicator
neural networks", DaWaK, LNCS 2454), with ReLU for its staircase activation and wider layers: dense
layers narrow down to a code of a few numbers and widen again. In training columns are dropped, so
that each is rebuilt from the others too (Vincent et al. 2008, ICML). What it has not seen it cannot
rebuild, so the squared error of the reconstruction is the score, computed inside the graph from the
float input; new kinds of fraud need no labels. Columns count by how well they can be rebuilt: the
error is that of independent normal distributions, as in the reconstruction probability of An and
Cho 2015 ("Variational autoencoder based anomaly detection"), with one variance for each column.

It returns one number per payment, the logarithm of that error: as a logit it ranks payments, and
its sigmoid is a score from 0 to 1, but no probability. ``reconstruction_loss``, a ``function`` of
``training.loss``, trains it on legitimate rows only; labels serve to choose the epoch and to judge.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

SMALLEST_ERROR = 1e-6
"""Below, a logarithm would tell rounding errors apart."""


class FraudAutoencoder(nn.Module):
    """Numeric columns, rebuilt from a short code; see ``build``."""

    def __init__(self, numeric: int, hidden: list[int], code: int, dropout: float) -> None:
        super().__init__()
        self.precision = nn.Parameter(torch.zeros(numeric))
        self.dropout = nn.Dropout(dropout)
        self.encoder = _dense([numeric, *hidden, code])
        self.decoder = _dense([code, *reversed(hidden), numeric])

    def forward(self, numeric: Tensor) -> Tensor:
        """Returns the logarithm of the weighted mean squared error, float32 (batch,).

        With weights whose product is 1 the least mean error is the largest likelihood: each weight
        becomes the inverse of the column's variance.

        Args:
            numeric: float32 (batch, numeric columns), scaled.
        """
        rebuilt = self.decoder(self.encoder(self.dropout(numeric)))
        # In tenths: a logarithm has further to go than a network's weights.
        weights = (10 * (self.precision - self.precision.mean())).exp()
        error = ((numeric - rebuilt).square() * weights).mean(1)
        score: Tensor = error.clamp_min(SMALLEST_ERROR).log()
        return score


def _dense(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def reconstruction_loss(
    outputs: dict[str, Tensor], labels: Tensor, inputs: dict[str, Tensor]
) -> Tensor:
    """Returns the mean squared error of the legitimate rows; 0 of none.

    Args:
        outputs: the logarithm of the error, (batch,).
        labels: int8 (batch,), 1 for fraud.
        inputs: not read.
    """
    (score,) = outputs.values()
    legitimate = labels == 0
    return (score.exp() * legitimate).sum() / legitimate.sum().clamp_min(1)


def build(
    inputs: dict[str, dict[str, list[int]]],
    hidden: list[int] | None = None,
    code: int = 8,
    dropout: float = 0.3,
) -> nn.Module:
    """Returns an untrained autoencoder.

    Args:
        inputs: filled in by qtool from the encoder; input ``numeric``.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse.
        code: numbers that a payment is rebuilt from.
        dropout: share of the columns dropped in training.
    """
    return FraudAutoencoder(inputs["numeric"]["shape"][0], hidden or [512, 256], code, dropout)
