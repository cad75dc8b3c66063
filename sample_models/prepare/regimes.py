"""Daily bars of the S&P 500 constituents: ``Name``, ``date``, ``open`` to ``close``, ``volume``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.market_regimes import DAYS, FEATURES, SCHEMA, windows_of
from sample_models.prepare.tables import only, read_table

STRIDE = 20
"""Days from one window to the next."""
TRAINING = 0.6
"""Share of the days on which the regimes are learned: those that the config trains on."""
REGIMES = 3
LEARNED_FROM = 100
"""Assets, spread over the alphabet."""
RANGE = FEATURES.index("log_range")
SMALLEST_RANGE = 1e-4

Floats = NDArray[np.float64]


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns windows in the columns of ``market_regimes``.

    Nobody has written down the regimes of a market: they are what a Gaussian hidden Markov model
    (hmmlearn), fitted to the first ``TRAINING`` of the days, finds most probable on each day given
    all days of the asset, ordered by the range of prices.

    Source: Nugent 2018, "S&P 500 stock data", Kaggle, ``all_stocks_5yr.csv``.
    """
    table = read_table(only(files)).drop_null()
    names = table["Name"].to_numpy()
    day = table["date"].to_numpy().astype("datetime64[D]")
    bars = np.stack(
        [table[name].to_numpy() for name in ("open", "high", "low", "close", "volume")], axis=1
    ).astype(np.float64)
    known = np.unique(day)
    last = known[int(TRAINING * len(known))]
    assets = {}
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        own = own[np.argsort(day[own], kind="stable")]
        learned = int((day[own][1:] <= last).sum())
        if learned > DAYS:
            assets[str(name)] = (day[own][1:], features_of(bars[own], learned), learned)
    chosen = list(assets.values())[:: -(-len(assets) // LEARNED_FROM)]
    model = gaussian_hmm([features[:learned] for _, features, learned in chosen])
    return pa.Table.from_batches(
        [
            windows_of(
                name,
                days,
                features.astype(np.float32),
                model.predict_proba(features).argmax(1),
                STRIDE,
            )
            for name, (days, features, _) in assets.items()
        ],
        SCHEMA,
    )


def features_of(bars: Floats, learned: int) -> Floats:
    """Returns ``FEATURES`` of all days but the first, (days - 1, features).

    Args:
        bars: open, high, low, close and volume, (days, 5).
        learned: days whose mean and standard deviation are an asset's usual ones.
    """
    opened, high, low, closed = np.log(bars[:, :4]).T
    overnight, intraday = opened[1:] - closed[:-1], (closed - opened)[1:]
    usual = np.std((overnight + intraday)[:learned])
    sizes = np.stack(
        [np.log(np.maximum(high - low, SMALLEST_RANGE)), np.log(np.maximum(bars[:, 4], 1))], axis=1
    )[1:]
    sizes -= sizes[:learned].mean(axis=0)
    return np.column_stack([overnight / usual, intraday / usual, sizes])


def gaussian_hmm(sequences: Sequence[Floats]) -> Any:
    """Returns a fitted ``hmmlearn.hmm.GaussianHMM`` whose regimes are ordered by the range.

    Args:
        sequences: (days, features) each.
    """
    from hmmlearn.hmm import GaussianHMM

    model = GaussianHMM(REGIMES, covariance_type="diag", n_iter=50, random_state=0)
    model.fit(np.concatenate(sequences), [len(one) for one in sequences])
    order = np.argsort(model.means_[:, RANGE])
    variances = model.covars_[order].diagonal(axis1=1, axis2=2)
    model.means_, model.covars_ = model.means_[order], variances
    model.startprob_, model.transmat_ = model.startprob_[order], model.transmat_[order][:, order]
    return model
