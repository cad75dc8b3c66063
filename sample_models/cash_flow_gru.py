"""Cash forecasts by a GRU: what a cash machine pays out on each of the coming days, as quantiles.

The recurrent encoder of MQ-RNN (Wen, Torkkola, Narayanaswamy and Madeka 2017, arXiv 1711.11053)
with one perceptron that makes all quantiles of all days at once. Changes: a GRU (Cho et al. 2014,
arXiv 1406.1078) for the LSTM, which reads a week at a time, as patches are read by Nie et al. 2023
(arXiv 2211.14730): a seventh of the steps, and the weekly profile is one input; the scaling by
window and the weekdays of ``cash_flow.py``, to which forecasts are added.

It returns (batch, days * quantiles), day by day, as the ``quantile`` loss reads it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sample_models.cash_flow import WEEK, amounts, normalized


class CashFlowGru(nn.Module):
    """Daily amounts into quantiles of the days to come; see ``build``."""

    def __init__(self, calendar: int, days: int, quantiles: int, width: int) -> None:
        super().__init__()
        self.days, self.quantiles = days, quantiles
        self.gru = nn.GRU(WEEK, width, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.mix = nn.Linear(width + calendar, width)
        self.head = nn.Linear(width, days * quantiles)

    def forward(self, history: Tensor, calendar: Tensor) -> Tensor:
        """Returns float32 (batch, days * quantiles), in the unit of ``history``.

        Args:
            history: float32 (batch, steps), one amount a day, the latest last; whole weeks.
            calendar: float32 (batch, columns), what is known of the date.
        """
        shape, level = normalized(history)
        states, _ = self.gru(shape.reshape(-1, shape.shape[1] // WEEK, WEEK))
        features = torch.cat([states[:, -1], calendar], dim=1)
        change = self.head(self.dropout(torch.relu(self.mix(features))))
        return amounts(change.reshape(-1, self.days, self.quantiles), shape, level)


def build(
    inputs: dict[str, dict[str, list[int]]],
    days: int = 56,
    quantiles: int = 3,
    width: int = 256,
) -> nn.Module:
    """Returns an untrained forecaster.

    Args:
        inputs: filled in by qtool from the encoder; inputs ``history`` and ``calendar``.
        days: to forecast; whole weeks.
        quantiles: of each day.
        width: of the GRU's state and of the layer behind it.
    """
    return CashFlowGru(inputs["calendar"]["shape"][0], days, quantiles, width)
