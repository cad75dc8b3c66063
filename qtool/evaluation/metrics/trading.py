"""What the predicted classes earn: each class is a position for the following period.

Rows are successive periods of one instrument, in the order of the sample.
"""

from __future__ import annotations

import numpy as np

from qtool.config.evaluation import Trading
from qtool.errors import ConfigError
from qtool.evaluation.metrics.metric import Build, Floats, Metric, mean_of, mean_where, numbers_of
from qtool.evaluation.metrics.multiclass import predicted
from qtool.evaluation.sample import Predictions, Sample, Statistic


def positions_of(section: Trading, probabilities: Predictions) -> Floats:
    """Returns the position that is taken in every row, (rows,).

    Raises:
        ConfigError: there are more or fewer positions than classes.
    """
    given, classes = len(section.positions), probabilities.shape[1]
    if given != classes:
        found = f"{given} positions for {classes} classes"
        raise ConfigError("evaluation.trading.positions", found, "one for each class")
    return np.array(section.positions)[predicted(probabilities)]


def trading_metrics(section: Trading) -> tuple[Metric, ...]:
    """Returns the metrics of the positions that ``section`` takes."""
    return (
        Metric("hit_rate", "Hit rate", "higher", _hit_rate(section), span=1),
        Metric("net_pnl", "Net PnL per period", "higher", _net_pnl(section)),
    )


def _hit_rate(section: Trading) -> Build:
    """Share of the rows with a position and a return where both have the same sign."""

    def build(sample: Sample, probabilities: Predictions) -> Statistic:
        signs = np.sign(positions_of(section, probabilities) * _returns(section, sample))
        return mean_where((signs > 0).astype(np.float64), signs != 0)

    return build


def _net_pnl(section: Trading) -> Build:
    """Mean over rows of position * return - cost * |change of position|; the first one is opened.

    The change is that from the row before in the sample, also where a draw leaves that row out.
    """

    def build(sample: Sample, probabilities: Predictions) -> Statistic:
        positions = positions_of(section, probabilities)
        traded = np.abs(np.diff(positions, prepend=0.0))
        return mean_of(positions * _returns(section, sample) - section.cost * traded)

    return build


def _returns(section: Trading, sample: Sample) -> Floats:
    return numbers_of(sample, section.returns, "evaluation.trading.returns")
