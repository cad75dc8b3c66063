"""Customer segmentation: profiles of customers become vectors that k-means divides into segments.

An autoencoder of the widths of Deep Embedded Clustering (Xie, Girshick and Farhadi 2016, arXiv
1511.06335, section 5.3: d-500-500-2000-10 and back, in multiples of 64), trained to restore
profiles of which a part is hidden (Vincent et al. 2010, "Stacked denoising autoencoders", JMLR 11),
all layers at once. As in its reference without the joint step, k-means runs on the vectors that are
learned.

It returns a dict: ``embedding``, which is exported, and ``restored`` for ``restored_loss``, a
``function`` of ``training.loss``.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Profiles into vectors and back; see ``build``."""

    def __init__(self, columns: int, hidden: list[int], embedding: int, hide: float) -> None:
        super().__init__()
        self.hide = nn.Dropout(hide)
        self.encoder = _layers([columns, *hidden, embedding])
        self.decoder = _layers([embedding, *reversed(hidden), columns])

    def forward(self, profile: Tensor) -> dict[str, Tensor]:
        """Returns ``embedding``, float32 (batch, embedding), and ``restored``, as ``profile``.

        Args:
            profile: float32 (batch, columns), standardized, so that 0 is the mean.
        """
        embedding = self.encoder(self.hide(profile))
        return {"embedding": embedding, "restored": self.decoder(embedding)}


def _layers(widths: list[int]) -> nn.Sequential:
    """Returns dense layers with ReLU between them."""
    layers: list[nn.Module] = []
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def restored_loss(
    outputs: dict[str, Tensor], labels: Tensor | None, inputs: dict[str, Tensor]
) -> Tensor:
    """Returns the mean squared error of what is restored; ``labels`` are not read."""
    return torch.nn.functional.mse_loss(outputs["restored"], inputs["profile"])


def build(
    inputs: dict[str, dict[str, list[int]]],
    hidden: list[int] | None = None,
    embedding: int = 16,
    hide: float = 0.4,
) -> nn.Module:
    """Returns an untrained autoencoder.

    Args:
        inputs: filled in by qtool from the encoder; input ``profile``.
        hidden: widths of the encoder's hidden layers; the decoder has them in reverse order.
        embedding: numbers of the vector.
        hide: share of a profile's values that training replaces by their mean.
    """
    return Autoencoder(
        columns=inputs["profile"]["shape"][0],
        hidden=[512, 512, 2048] if hidden is None else hidden,
        embedding=embedding,
        hide=hide,
    )
