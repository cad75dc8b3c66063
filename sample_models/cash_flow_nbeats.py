"""Forecasts by N-BEATS: what a cash machine pays out on each of the coming days, as quantiles.

The generic architecture of Oreshkin, Carpov, Chapados and Bengio 2020 (arXiv 1905.10437, section
3): blocks of four dense layers, each of which takes its backcast from the input of the next block
and adds its forecast to those before. Changes: quantiles instead of one forecast per day; the date
beside the input of every block, as exogenous variables in NBEATSx (Olivares et al. 2023,
International Journal of Forecasting 39(2)); fewer blocks than the 30 that an ensemble for 100,000
series has; the scaling by window and the weekdays of ``cash_flow.py``, to which forecasts are
added. With ``season: 1`` it forecasts months of any business series as well
(``configs/cash_flow_m3.yaml``).

It returns (batch, days * quantiles), day by day, as the ``quantile`` loss reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sample_models.cash_flow import WEEK, amounts, normalized

DEPTH = 4
"""Dense layers of a block (table 18 of the paper)."""


class Block(nn.Module):
    """Dense layers with two linear heads: what is explained of the past, and of the future."""

    def __init__(self, steps: int, known: int, outputs: int, width: int) -> None:
        super().__init__()
        widths = [steps + known] + [width] * (DEPTH - 1)
        self.dense = nn.ModuleList(nn.Linear(size, width) for size in widths)
        self.backcast, self.forecast = nn.Linear(width, steps), nn.Linear(width, outputs)
        # Of many blocks none may begin with a loud guess.
        nn.init.normal_(self.forecast.weight, std=0.001)
        nn.init.zeros_(self.forecast.bias)

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the backcast (batch, steps) and the forecast (batch, outputs)."""
        y = torch.cat([x, known], dim=1)
        for layer in self.dense:
            y = torch.relu(layer(y))
        return self.backcast(y), self.forecast(y)


class CashFlowNBeats(nn.Module):
    """Daily amounts into quantiles of the days to come; see ``build``."""

    def __init__(
        self,
        steps: int,
        calendar: int,
        days: int,
        quantiles: int,
        season: int,
        width: int,
        blocks: int,
    ) -> None:
        super().__init__()
        self.days, self.quantiles, self.season = days, quantiles, season
        outputs = days * quantiles
        self.blocks = nn.ModuleList(Block(steps, calendar, outputs, width) for _ in range(blocks))

    def forward(self, history: Tensor, calendar: Tensor) -> Tensor:
        """Returns float32 (batch, days * quantiles), in the unit of ``history``.

        Args:
            history: float32 (batch, steps), one amount a day, the latest last.
            calendar: float32 (batch, columns), what is known of the date.
        """
        shape, level = normalized(history)
        first, *others = self.blocks
        backcast, change = first(shape, calendar)
        x = shape
        for block in others:
            x = x - backcast
            backcast, forecast = block(x, calendar)
            change = change + forecast
        return amounts(change.reshape(-1, self.days, self.quantiles), shape, level, self.season)


def build(
    inputs: dict[str, dict[str, list[int]]],
    days: int = 56,
    quantiles: int = 3,
    season: int = WEEK,
    width: int = 512,
    blocks: int = 6,
) -> nn.Module:
    """Returns an untrained forecaster.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``history`` and ``calendar``.
        days: to forecast, or other steps of time; whole seasons.
        quantiles: of each day.
        season: days whose means forecasts are added to; 1: the mean of all days.
        width: of the dense layers.
        blocks: one after the other.
    """
    return CashFlowNBeats(
        steps=inputs["history"]["shape"][0],
        calendar=inputs["calendar"]["shape"][0],
        days=days,
        quantiles=quantiles,
        season=season,
        width=width,
        blocks=blocks,
    )
