"""Torch modules of the models that ``qat.py`` trains on real data, of the usual sizes."""

from __future__ import annotations

import torch
from block_attention import EncoderLayer
from block_dense import Mlp
from block_sequences import Tcn
from torch import Tensor, nn


def dropout_mlp(inputs: int) -> nn.Module:
    """Returns 3 x 512 units with dropout; before ReLU it does what it does after."""
    return Mlp([inputs, 512, 512, 512, 1], nn.ReLU, lambda width: nn.Dropout(0.3))


def direction_tcn(inputs: int) -> nn.Module:
    """Returns a ``Tcn`` of 64 channels that sees 63 steps and tells three classes."""
    network = Tcn(inputs, 64, 5)
    network.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 3))  # type: ignore[assignment]
    return network


class DirectionCnn(nn.Module):
    """2-D convolutions over the order book: across a level, across the levels, then along time.

    After DeepLOB (Zhang et al. 2019, arXiv 1808.03668), with pooling for its inception and LSTM.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()

        def along_time() -> list[nn.Module]:
            return [nn.Conv2d(64, 64, (4, 1)), nn.ReLU()]

        def pool() -> nn.Module:
            return nn.MaxPool2d((2, 1))

        self.body = nn.Sequential(
            nn.Conv2d(1, 32, (1, 4), stride=(1, 4)),
            nn.ReLU(),
            nn.Conv2d(32, 64, (1, levels)),
            nn.ReLU(),
            *(*along_time(), pool()),
            *(*along_time(), pool()),
            *along_time(),
        )
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 3) for ``x`` of (batch, 1, steps, 4 * levels)."""
        return self.head(self.dropout(self.body(x)[:, :, -1, 0]))  # type: ignore[no-any-return]


class TextEncoder(nn.Module):
    """Embedded words through post-norm encoder layers, then the mean over the words."""

    def __init__(self, vocabulary: int, words: int, classes: int) -> None:
        super().__init__()
        width = 128
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(words, width))
        self.layers = nn.ModuleList(
            EncoderLayer(width, 4, "gelu", pre_norm=False) for _ in range(2)
        )
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(width, classes)
        nn.init.normal_(self.table.weight, std=0.1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Returns float32 (batch, classes) for int64 (batch, words); ``mask`` is 1 at words."""
        real = mask.to(torch.float32)
        bias = (1 - real)[:, None, None, :] * -1e4
        x = self.dropout(self.table(tokens) + self.positions)
        for layer in self.layers:
            x = self.dropout(layer(x, bias))
        mean = (x * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        return self.head(mean)  # type: ignore[no-any-return]
