"""FRED-MD as options: four exchange rates and the oil price, one column each beside ``date``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import random_stream
from qtool.data.generators.heston_options import (
    DECAY,
    HIGHEST_VARIANCE,
    LOWEST_VARIANCE,
    MONTH,
    SCHEMA,
    make_smiles,
)
from sample_models.prepare.tables import only, read_table

UNDERLYINGS = ("EXSZUSx", "EXJPUSx", "EXUSUKx", "EXCAUSx", "OILPRICEx")
RATE = "TB3MS"
FLOATING = np.datetime64("1974-02-01")
"""Before it, exchange rates and the oil price hardly moved."""
FIRST_MONTHS = 24
"""Whose mean it starts with."""
MATURITIES = 5
"""Smiles on each underlying in each month."""
SEED = 7

Floats = NDArray[np.float64]


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns options in the columns of ``heston_options``, smiles in random order.

    ``v0`` is the moving average of an underlying's squared monthly returns, within the domain of
    the generator, ``theta`` its mean; the rate is that of treasury bills. What no panel has, the
    other parameters of Heston's model, maturities and strikes, is drawn as the generator draws it.

    Source: FRED-MD, Federal Reserve Bank of St. Louis (McCracken and Ng 2016).
    """
    table = read_table(only(files))
    date = table["date"].to_numpy().astype("datetime64[D]")
    kept = date >= FLOATING
    rate = table[RATE].to_numpy()[kept] / 100
    random = random_stream(SEED, 0)
    parts = []
    for name in UNDERLYINGS:
        returns = np.diff(np.log(table[name].to_numpy()[kept].astype(np.float64)))
        variance = moving_variance(returns)
        v0 = variance[:-1]
        theta = np.full(len(v0), variance.mean())
        month = (returns, np.diff(np.log(variance)), np.diff(rate))
        parts.append(np.stack([v0, theta, rate[:-1], *month], axis=1))
    states = random.permutation(np.repeat(np.concatenate(parts), MATURITIES, axis=0))
    v0, theta = np.clip(states[:, :2].T, LOWEST_VARIANCE, HIGHEST_VARIANCE)
    changes = dict(zip(MONTH, states[:, 3:].T, strict=True))
    columns = make_smiles(random, np.arange(len(states)), v0, theta, states[:, 2], changes)
    return pa.table([pa.array(columns[f.name], f.type) for f in SCHEMA], schema=SCHEMA)


def moving_variance(returns: Floats) -> Floats:
    """Returns variances per year after each month, before the first one too, (months + 1,)."""
    variance = np.empty(len(returns) + 1)
    variance[0] = np.mean(returns[:FIRST_MONTHS] ** 2)
    for month, value in enumerate(returns):
        variance[month + 1] = DECAY * variance[month] + (1 - DECAY) * value * value
    return 12 * variance
