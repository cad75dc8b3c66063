"""Torch modules of the blocks that read sequences by convolution or recurrence."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Tcn(nn.Module):
    """Causal dilated convolutions with residuals (arXiv 1803.01271); the last step is scored."""

    def __init__(self, channels: int, layers: int, taps: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(channels, channels, taps, dilation=2**i) for i in range(layers)
        )
        self.last = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, channels, steps)."""
        for i, layer in enumerate(self.layers):
            found = layer(functional.pad(x, (2 * 2**i, 0))).relu()
            x = found if i == 0 else x + found
        return self.last(x[:, :, -1])  # type: ignore[no-any-return]


class Separable(nn.Module):
    """A convolution, then depthwise and pointwise ones (arXiv 1704.04861), average and score."""

    def __init__(self, inputs: int, channels: int, blocks: int, taps: int = 5) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(inputs, channels, taps, padding="same"), nn.ReLU()]
        for _ in range(blocks):
            layers += [
                nn.Conv1d(channels, channels, taps, padding="same", groups=channels, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
                nn.Conv1d(channels, channels, 1, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, inputs, steps)."""
        return self.last(self.layers(x).mean(dim=2))  # type: ignore[no-any-return]


class DeepLob(nn.Module):
    """Limit order book network: convolutions over levels, inception, LSTM (arXiv 1808.03668)."""

    def __init__(self, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        for inputs, kernel, stride in ((1, (1, 2), (1, 2)), (32, (1, 2), (1, 2)), (32, (1, 10), 1)):
            levels += [nn.Conv2d(inputs, 32, kernel, stride), activation()]
            for _ in range(2):
                levels += [nn.Conv2d(32, 32, (4, 1)), activation()]
        self.levels = nn.Sequential(*levels)
        branches = [self._branch(taps, activation) for taps in (3, 5)]
        pooled = [nn.MaxPool2d((3, 1), 1, (1, 0)), nn.Conv2d(32, 64, 1), activation()]
        self.branches = nn.ModuleList([*branches, nn.Sequential(*pooled)])
        self.lstm = nn.LSTM(192, 64, batch_first=True)
        self.last = nn.Linear(64, 3)

    @staticmethod
    def _branch(taps: int, activation: Callable[[], nn.Module]) -> nn.Module:
        wide = nn.Conv2d(64, 64, (taps, 1), padding=(taps // 2, 0))
        return nn.Sequential(nn.Conv2d(32, 64, 1), activation(), wide, activation())

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 3) for ``x`` of (batch, 1, 100, 40)."""
        found = self.levels(x)
        joined = torch.cat([branch(found) for branch in self.branches], dim=1)
        steps, _ = self.lstm(joined.squeeze(3).transpose(1, 2))
        return self.last(steps[:, -1])  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """One LSTM or GRU; the last step is scored."""

    def __init__(self, cell: type[nn.LSTM] | type[nn.GRU], inputs: int, hidden: int) -> None:
        super().__init__()
        self.recurrent = cell(inputs, hidden, batch_first=True)
        self.last = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns float32 (batch, 1) for ``x`` of (batch, steps, inputs)."""
        return self.last(self.recurrent(x)[0][:, -1])  # type: ignore[no-any-return]
