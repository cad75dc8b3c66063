"""Cash forecasts: what a cash machine pays out on each of the coming days, as quantiles.

A temporal convolutional network: causal dilated convolutions with residuals (Bai, Kolter and Koltun
2018, arXiv 1803.01271). Every window is divided by its own mean, inside the graph, so that machines
of all sizes are one problem, and the network adds to what the same weekdays of the last weeks were
on average (the decomposition that Andrawis, Atiya and El-Shishiny 2011, International Journal of
Forecasting 27(3), found to matter most on the NN5 data).

It returns (batch, days * quantiles), day by day, as the ``quantile`` loss reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WEEK = 7
TAPS = 3
SMALLEST_MEAN = 1e-3
"""Of a window: a machine out of order for months has none."""


class CashFlowNet(nn.Module):
    """Daily amounts into quantiles of the days to come; see ``build``."""

    def __init__(
        self, calendar: int, days: int, quantiles: int, channels: int, layers: int
    ) -> None:
        super().__init__()
        self.days, self.quantiles = days, quantiles
        self.stem = nn.Conv1d(1, channels, 1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels, channels, TAPS, padding=(TAPS - 1) * 2**i, dilation=2**i)
            for i in range(layers)
        )
        self.dropout = nn.Dropout(0.2)
        self.mix = nn.Linear(channels + calendar, 2 * channels)
        self.head = nn.Linear(2 * channels, days * quantiles)

    def forward(self, history: Tensor, calendar: Tensor) -> Tensor:
        """Returns float32 (batch, days * quantiles), in the unit of ``history``.

        Args:
            history: float32 (batch, steps), one amount a day, the latest last.
            calendar: float32 (batch, columns), what is known of the date.
        """
        shape, level = normalized(history)
        x = self.stem(shape[:, None])
        for index, convolution in enumerate(self.convolutions):
            cut = (TAPS - 1) * 2**index
            x = torch.relu(x + torch.relu(convolution(x)[..., :-cut]))
        features = torch.cat([x[..., -1], calendar], dim=1)
        change = self.head(self.dropout(torch.relu(self.mix(features))))
        return amounts(change.reshape(-1, self.days, self.quantiles), shape, level)


def normalized(history: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the history divided by its mean, (batch, steps), and that mean, (batch, 1)."""
    level = history.mean(1, keepdim=True).clamp_min(SMALLEST_MEAN)
    return history / level, level


def amounts(change: Tensor, shape: Tensor, level: Tensor, season: int = WEEK) -> Tensor:
    """Returns the forecast, (batch, days * quantiles), in the unit of ``level``.

    Args:
        change: (batch, days, quantiles), added to the mean of the same day of the season in
            ``shape``; whole seasons.
        shape: (batch, steps), as ``normalized`` returns it.
        level: (batch, 1), likewise.
        season: days; 1: without a season all days are alike.
    """
    seasons = shape.shape[1] // season
    known = shape[:, -seasons * season :].reshape(-1, seasons, season).mean(1)
    usual = known.repeat(1, change.shape[1] // season)[:, :, None]
    return ((usual + change) * level[:, :, None]).flatten(1)


def build(
    inputs: dict[str, dict[str, list[int]]],
    days: int = 56,
    quantiles: int = 3,
    channels: int = 64,
    layers: int = 6,
) -> nn.Module:
    """Returns an untrained forecaster.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``history`` and ``calendar``.
        days: to forecast; whole weeks.
        quantiles: of each day.
        channels: of the convolutions.
        layers: convolutions; the last step sees the ``2 * (2**layers - 1)`` days before it.
    """
    return CashFlowNet(
        calendar=inputs["calendar"]["shape"][0],
        days=days,
        quantiles=quantiles,
        channels=channels,
        layers=layers,
    )
