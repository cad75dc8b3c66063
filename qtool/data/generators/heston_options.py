"""European options under Heston's model with their implied volatilities: seeded, of any size.

**What a row is.** One option in one state of the market: ``log_moneyness`` is log(K / S),
``maturity`` in years, ``rate`` continuously compounded; ``v0``, ``kappa``, ``theta``, ``sigma`` and
``rho`` are Heston's, and ``implied_vol`` is what Black's formula needs to give his price, in
volatility points (20 is 20 % a year). ``SMILE`` rows after each other are the strikes of one
maturity in one state, with one number in ``smile``. ``spot_return``, ``variance_change`` and
``rate_change`` are what the month after did: log return of the spot, change of log(v0), change of
the rate. ``sample_models.prepare scenario`` makes the same columns of the FRED-MD panel (McCracken
and Ng 2016, Journal of Business & Economic Statistics 34(4)): four exchange rates and the oil
price, with the variance, the rate and the change of each month since 1974, and drawn options.

**How it is made.** States, maturities and strikes are drawn evenly over the domain on which a
surrogate must hold, as is usual (Liu, Oosterlee and Bohte 2019, arXiv 1901.08943, table 5).
``sigma`` is drawn relative to ``sqrt(2 kappa theta)``, beyond which the variance reaches 0. Strikes
lie within ``REACH`` standard deviations of the forward; where an option is worth less than
``WORTHLESS`` of the forward it is moved half as far, as nobody quotes it. Months are a factor
model: returns have Student's tails, the variance follows their squares as a moving average does,
rates move by themselves. Labels are exact to 0.001 volatility points for 99 of 100 options, by
the Fourier-cosine series of ``heston.py``. The same seed gives the same options: more rows add
options and change none, and the size of the batches plays no part.

Statistics, in brackets those of the prepared panel (``tests/data/test_heston_options.py`` holds the
claims). Expected volatilities of the domain are from 4 % to 60 %, wider than one panel: median 16 %
(8 %). The implied volatility is 0.64 to 1.35 times the expected one for 98 of 100 options (0.64 to
1.37), and 1.9 volatility points away from it on average (1.1). Half of the markets let the variance
reach 0. A month moves the spot by 1.0 of its standard deviations (1.1), 1.4 % of them by more than
three (1.6 %); rates move by 0.4 % (0.4 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream
from qtool.data.generators.heston import Market, implied_volatility, put_prices

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

SMILE = 8
"""Strikes of one maturity."""
CHUNK_SMILES = 512
REACH = 2.5
WORTHLESS = 2e-5
SHORTEST, LONGEST = 1 / 12, 2.0
"""Maturities, years."""
LOWEST_VARIANCE, HIGHEST_VARIANCE = 0.04**2, 0.6**2
"""Of ``v0`` and ``theta``, per year."""
DECAY = 0.9
"""Of the moving average of squared returns that a variance is, per month."""
OPTION = ("log_moneyness", "maturity", "rate", "v0", "kappa", "theta", "sigma", "rho")
MONTH = ("spot_return", "variance_change", "rate_change")
SCHEMA = pa.schema(
    [
        ("smile", pa.int64()),
        *((name, pa.float32()) for name in (*OPTION, *MONTH)),
        ("implied_vol", pa.float32()),
    ]
)

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class HestonOptions:
    """The source ``{generator: heston_options, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"heston_options(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("heston_options", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the options by smile."""
        chunk_rows = CHUNK_SMILES * SMILE
        for first in range(0, self.rows, chunk_rows):
            values = make_chunk(self.seed, first // chunk_rows)
            batch = pa.RecordBatch.from_arrays(
                [
                    pa.array(values[name][: self.rows - first], SCHEMA.field(name).type)
                    for name in columns
                ],
                names=list(columns),
            )
            yield from cut(batch, batch_rows)


def make_chunk(seed: int, chunk: int) -> Columns:
    """Returns ``CHUNK_SMILES`` smiles in the columns of ``SCHEMA``."""
    random = random_stream(seed, chunk)
    count = CHUNK_SMILES
    v0, theta = _log_uniform(random, LOWEST_VARIANCE, HIGHEST_VARIANCE, (2, count))
    # In one market the two are not far apart.
    v0 = np.clip(theta * (v0 / theta) ** 0.4, LOWEST_VARIANCE, HIGHEST_VARIANCE)
    rate = random.uniform(0.0, 0.1, count)
    shock = random.standard_t(4, count) / np.sqrt(2)
    month = {
        "spot_return": shock * np.sqrt(v0 / 12),
        "variance_change": np.log(DECAY + (1 - DECAY) * shock**2),
        "rate_change": 0.004 * random.standard_t(3, count) / np.sqrt(3),
    }
    smiles = np.arange(chunk * count, (chunk + 1) * count)
    return make_smiles(random, smiles, v0, theta, rate, month)


def make_smiles(
    random: np.random.Generator,
    smiles: NDArray[np.int64],
    v0: Floats,
    theta: Floats,
    rate: Floats,
    month: dict[str, Floats],
) -> Columns:
    """Returns smiles in the columns of ``SCHEMA``, ``SMILE`` rows each.

    Speed of reversion, vol of variance, correlation, maturity and strikes are drawn.

    Args:
        random: draws them.
        smiles: their numbers, (smiles,).
        v0: variance now, per year, (smiles,).
        theta: variance in the long run, likewise.
        rate: continuously compounded, per year, likewise.
        month: the columns ``MONTH``, likewise.
    """
    count = len(smiles)
    kappa = _log_uniform(random, 0.5, 5.0, count)
    sigma = np.sqrt(2 * kappa * theta) * _log_uniform(random, 0.5, 2.0, count)
    rho = random.uniform(-0.9, 0.4, count)
    maturity = _log_uniform(random, SHORTEST, LONGEST, count)
    market = Market(v0, kappa, theta, sigma, rho)
    unit = np.sqrt(market.mean_variance(maturity) * maturity)[:, None]
    log_strike = unit * np.sort(random.uniform(-REACH, REACH, (count, SMILE)), axis=1)
    price = _out_of_the_money(market, maturity, log_strike)
    while (worthless := price < WORTHLESS).any():
        log_strike = np.where(worthless, log_strike / 2, log_strike)
        moved: NDArray[np.bool_] = np.any(worthless, axis=1)
        price[moved] = _out_of_the_money(market.take(moved), maturity[moved], log_strike[moved])
    volatility = implied_volatility(price, log_strike, maturity[:, None])
    states = {"smile": smiles, "maturity": maturity, "rate": rate, "v0": v0, "kappa": kappa,
              "theta": theta, "sigma": sigma, "rho": rho, **month}  # fmt: skip
    columns: Columns = {name: np.repeat(values, SMILE) for name, values in states.items()}
    columns["log_moneyness"] = (log_strike + (rate * maturity)[:, None]).reshape(-1)
    columns["implied_vol"] = 100 * volatility.reshape(-1)
    return columns


def _out_of_the_money(market: Market, maturity: Floats, log_strike: Floats) -> Floats:
    """Returns prices of puts below the forward and of calls above it, over the forward."""
    puts = put_prices(market, maturity, log_strike)
    prices: Floats = np.where(log_strike > 0, puts + 1 - np.exp(log_strike), puts)
    return prices


def _log_uniform(
    random: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]
) -> Floats:
    found: Floats = np.exp(random.uniform(np.log(low), np.log(high), shape))
    return found
