"""Torch modules of the blocks that read sequences by convolution or recurrence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Tcn(nn.Module):
    """Causal dilated convolutions with residuals (Bai et al. 2018, arXiv 1803.01271).

    ``two_dimensional`` computes the same with 2-D convolutions of height 1.
    """

    def __init__(
        self, inputs: int, channels: int, layers: int, *, two_dimensional: bool = False
    ) -> None:
        super().__init__()
        self.two_dimensional = two_dimensional
        self.stem = self._convolution(inputs, channels, 1, 0, 1)
        self.head = nn.Linear(channels, 1)
        self.convolutions = nn.ModuleList(
            self._convolution(channels, channels, 3, 2 * 2**i, 2**i) for i in range(layers)
        )

    def _convolution(
        self, inputs: int, channels: int, taps: int, padding: int, dilation: int
    ) -> nn.Module:
        if self.two_dimensional:
            shape = {"padding": (0, padding), "dilation": (1, dilation)}
            return nn.Conv2d(inputs, channels, (1, taps), **shape)  # type: ignore[arg-type]
        return nn.Conv1d(inputs, channels, taps, padding=padding, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, inputs, steps)."""
        x = self.stem(x.unsqueeze(2) if self.two_dimensional else x)
        for index, convolution in enumerate(self.convolutions):
            x = torch.relu(x + torch.relu(convolution(x)[..., : -2 * 2**index]))
        last = x[..., -1]
        return self.head(last.flatten(1) if self.two_dimensional else last)  # type: ignore[no-any-return]


class DeepLob(nn.Module):
    """Convolutions, inception and an LSTM on the order book (Zhang et al. 2019, 1808.03668)."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()

        def block(inputs: int, width: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, 32, (1, width), stride=(1, stride)),
                activation(),
                nn.Conv2d(32, 32, (4, 1)),
                activation(),
                nn.Conv2d(32, 32, (4, 1)),
                activation(),
            )

        self.body = nn.Sequential(block(1, 2, 2), block(32, 2, 2), block(32, 10, 1))
        self.branch1 = nn.Sequential(
            nn.Conv2d(32, 64, (1, 1)), activation(), nn.Conv2d(64, 64, (3, 1), padding=(1, 0))
        )
        self.branch2 = nn.Sequential(
            nn.Conv2d(32, 64, (1, 1)), activation(), nn.Conv2d(64, 64, (5, 1), padding=(2, 0))
        )
        self.branch3 = nn.Sequential(
            nn.MaxPool2d((3, 1), stride=1, padding=(1, 0)), nn.Conv2d(32, 64, (1, 1))
        )
        self.activation = activation()
        self.lstm, self.head = nn.LSTM(192, 64, batch_first=True), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 3) for ``x`` of (batch, 1, 100, 40)."""
        x = self.body(x)
        branches = [self.branch1(x), self.branch2(x), self.branch3(x)]
        x = torch.cat([self.activation(branch) for branch in branches], 1)
        return self.head(self.lstm(x.squeeze(3).transpose(1, 2))[0][:, -1])  # type: ignore[no-any-return]


class Separable(nn.Module):
    """Depthwise and pointwise convolutions over time, with batch normalization."""

    def __init__(self, inputs: int, channels: int, layers: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(inputs, channels, 1)
        self.body = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv1d(channels, channels, 5, padding=2, groups=channels, bias=False),
                    nn.BatchNorm1d(channels),
                    nn.ReLU(),
                    nn.Conv1d(channels, channels, 1, bias=False),
                    nn.BatchNorm1d(channels),
                    nn.ReLU(),
                )
                for _ in range(layers)
            )
        )
        self.head = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, inputs, steps)."""
        return self.head(self.body(self.stem(x)).mean(2))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """One LSTM or GRU over (rows, steps, inputs), the last state to a score."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], inputs: int, hidden: int) -> None:
        super().__init__()
        self.cell, self.head = kind(inputs, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, steps, inputs)."""
        return self.head(self.cell(x)[0][:, -1])  # type: ignore[no-any-return]
