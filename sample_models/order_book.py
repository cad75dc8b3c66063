"""Algorithmic trading: where the mid-price goes next, from the last changes of the order book.

DeepLOB (Zhang, Zohren and Roberts 2019, arXiv 1808.03668): convolutions join price and volume of
each level, then both sides of a level, then all levels; an inception module (Szegedy et al. 2015,
arXiv 1409.4842) reads several spans of time; an LSTM reads what comes of them. Changes: Relu
instead of LeakyReLU, which integer kernels compute for nothing with the convolution; batch
normalization after each convolution, as in the authors' published code; dropout before the last
layer, and a linear layer on the last step beside it, so that what is plain to see need not be
found. With ``head: tcn`` causal dilated convolutions with residuals (Bai, Kolter and Koltun 2018,
arXiv 1803.01271) take the place of the LSTM, so that all steps are computed at once.

It returns one logit for each of down, flat and up. ``mirrored`` is its
``training.augment.function``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

CLASSES = 3
TAPS = 4
"""Steps of the convolutions over time."""


def convolution(
    channels: int,
    out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> nn.Sequential:
    """Returns convolution, normalization and Relu; kernels are (steps, columns)."""
    layer = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU())


class Inception(nn.Module):
    """One step, three, five, and the largest of three, side by side."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.short, self.long = (
            nn.Sequential(
                convolution(channels, out, (1, 1)),
                convolution(out, out, (steps, 1), padding=(steps // 2, 0)),
            )
            for steps in (3, 5)
        )
        self.largest = nn.Sequential(
            nn.MaxPool2d((3, 1), 1, (1, 0)), convolution(channels, out, (1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns (batch, 3 * out, steps, 1)."""
        return torch.cat([self.short(x), self.long(x), self.largest(x)], dim=1)


class TemporalConvolutions(nn.Module):
    """Causal dilated convolutions with residuals; see ``cash_flow.py``."""

    def __init__(self, channels: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(channels, hidden, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(hidden, hidden, TAPS, padding=(TAPS - 1) * 2**i, dilation=2**i)
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the last step, (batch, hidden); ``x`` is (batch, channels, steps)."""
        x = torch.relu(self.stem(x))
        for index, layer in enumerate(self.convolutions):
            x = torch.relu(x + torch.relu(layer(x)[..., : -(TAPS - 1) * 2**index]))
        return x[..., -1]


class OrderBookNet(nn.Module):
    """A window of the book into the direction of the mid-price; see ``build``."""

    def __init__(
        self, columns: int, channels: int, branches: int, hidden: int, head: Literal["lstm", "tcn"]
    ) -> None:
        super().__init__()
        levels = columns // 4
        over_time = [convolution(channels, channels, (TAPS, 1)) for _ in range(6)]
        self.levels = nn.Sequential(
            # Price and volume, then ask and bid, then all levels.
            convolution(1, channels, (1, 2), stride=(1, 2)),
            *over_time[:2],
            convolution(channels, channels, (1, 2), stride=(1, 2)),
            *over_time[2:4],
            convolution(channels, channels, (1, levels)),
            *over_time[4:],
        )
        self.spans = Inception(channels, branches)
        self.lstm = nn.LSTM(3 * branches, hidden, batch_first=True) if head == "lstm" else None
        self.tcn = TemporalConvolutions(3 * branches, hidden, layers=4) if head == "tcn" else None
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(hidden, CLASSES)
        self.wide = nn.Linear(columns, CLASSES)

    def forward(self, book: Tensor) -> Tensor:
        """Returns float32 (batch, 3).

        Args:
            book: float32 (batch, steps, columns), per level ask price, ask volume, bid price and
                bid volume, the latest step last.
        """
        x = self.spans(self.levels(book[:, None]))[..., 0]
        if self.lstm is not None:
            last = self.lstm(x.transpose(1, 2))[0][:, -1]
        else:
            assert self.tcn is not None
            last = self.tcn(x)
        logits: Tensor = self.out(self.dropout(last)) + self.wide(book[:, -1])
        return logits


def mirrored(
    inputs: dict[str, Tensor], labels: Tensor, share: float = 0.5
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns a batch in which some books have their sides exchanged, and down is up.

    A few hours of one market have a trend, which the network is not to learn by heart.

    Args:
        inputs: ``book``, as ``OrderBookNet`` reads it, each column scaled by itself: the scaled
            prices of both sides are about each other's negatives.
        labels: int64 (batch,), from 0 for down to 2 for up.
        share: of the rows.
    """
    chosen = torch.rand(len(labels)) < share
    book = inputs["book"].reshape(*inputs["book"].shape[:2], -1, 4)
    ask_price, ask_volume, bid_price, bid_volume = book.unbind(3)
    other = torch.stack([-bid_price, bid_volume, -ask_price, ask_volume], dim=3)
    book = torch.where(chosen[:, None, None, None], other, book).flatten(2)
    return {"book": book}, torch.where(chosen, CLASSES - 1 - labels, labels)


def build(
    inputs: dict[str, dict[str, list[int]]],
    channels: int = 32,
    branches: int = 64,
    hidden: int = 128,
    head: Literal["lstm", "tcn"] = "lstm",
) -> nn.Module:
    """Returns an untrained network.

    Args:
        inputs: filled in by qtool from the encoder; input ``book``.
        channels: of the convolutions.
        branches: channels of each branch of the inception module.
        hidden: units of the LSTM, or channels of the temporal convolutions.
        head: what reads the steps.
    """
    return OrderBookNet(inputs["book"]["shape"][-1], channels, branches, hidden, head)
