"""The population behind the card transactions: merchant categories, merchants and cards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtool.data.generators.chunks import random_stream
from qtool.data.hashing import splitmix64, unit_interval

Float64 = NDArray[np.float64]
MERCHANTS = 2_000
ZIPF_EXPONENT = 1.1
COUNTRIES = ("DE", "FR", "NL", "AT", "IT", "ES", "GB", "US", "CN", "NG")
COUNTRY_SHARES = np.array([0.62, 0.07, 0.06, 0.05, 0.05, 0.04, 0.04, 0.04, 0.02, 0.01])
COUNTRY_RISK = np.array([-0.2, 0.0, -0.1, -0.1, 0.1, 0.1, 0.2, 0.6, 0.8, 1.3])
PRODUCTS = ("debit", "credit", "prepaid")
PREPAID = 2
CHANNELS = ("chip", "contactless", "magstripe", "online", "phone")
MAGSTRIPE, ONLINE, PHONE = 2, 3, 4


@dataclass(frozen=True)
class Category:
    """A merchant category (ISO 18245 code).

    Attributes:
        mcc: the code.
        merchants: share of the merchants.
        median: median amount, euro.
        sigma: standard deviation of the log amount.
        risk: log-odds of fraud against the average category.
        online: share of payments made online.
    """

    mcc: int
    merchants: float
    median: float
    sigma: float
    risk: float
    online: float


CATEGORIES = (
    Category(5411, 0.18, 28, 0.8, -0.9, 0.05),  # grocery stores
    Category(5812, 0.16, 24, 0.7, -0.5, 0.05),  # restaurants
    Category(5541, 0.09, 42, 0.5, -0.3, 0.00),  # service stations
    Category(5912, 0.07, 19, 0.8, -0.6, 0.10),  # drug stores
    Category(5311, 0.08, 55, 0.9, 0.1, 0.30),  # department stores
    Category(5732, 0.05, 140, 1.0, 0.9, 0.50),  # electronics
    Category(5944, 0.03, 180, 1.0, 1.0, 0.30),  # jewelry
    Category(5999, 0.09, 38, 1.0, 0.4, 0.70),  # miscellaneous retail
    Category(4111, 0.08, 9, 0.6, -0.5, 0.30),  # local transport
    Category(4511, 0.03, 260, 0.7, 0.5, 0.90),  # airlines
    Category(7011, 0.04, 160, 0.7, 0.2, 0.60),  # hotels
    Category(5816, 0.06, 12, 0.7, 0.6, 1.00),  # digital games
    Category(4829, 0.02, 220, 1.0, 1.4, 0.90),  # money transfer
    Category(6011, 0.02, 120, 0.7, 0.3, 0.00),  # cash machines
)
CASH_MACHINES = 6011


@dataclass(frozen=True)
class Merchants:
    """The merchants: arrays of shape (MERCHANTS,) by merchant number."""

    cumulative_share: Float64
    category: NDArray[np.int64]
    country: NDArray[np.int64]
    risk: Float64


def make_merchants(seed: int) -> Merchants:
    """Returns the merchants of a seed."""
    # 2**64 - 1 is no chunk number, so this stream is none of the chunks' streams.
    random = random_stream(seed, 2**64 - 1)
    share = np.arange(1, MERCHANTS + 1) ** -ZIPF_EXPONENT
    weights = np.array([category.merchants for category in CATEGORIES])
    category = random.choice(len(CATEGORIES), MERCHANTS, p=weights / weights.sum())
    # The largest merchants stand for supermarkets, whatever the seed draws: the share of one
    # merchant is up to 15 %, and with it the fraud rate of the whole set would move.
    category[:8] = [0, 1, 2, 7, 0, 4, 8, 11]
    country = random.choice(len(COUNTRIES), MERCHANTS, p=COUNTRY_SHARES)
    country[:8] = 0
    risk = COUNTRY_RISK[country] + 0.4 * random.standard_normal(MERCHANTS)
    risk[:8] = COUNTRY_RISK[0]
    return Merchants(np.cumsum(share) / share.sum(), category, country, risk)


@dataclass(frozen=True)
class Cards:
    """Some cards: arrays of one shape, computed from the card numbers alone.

    Attributes:
        payments_per_day: mean number of payments in 24 hours.
        spending: factor of the card's typical amount.
        age_days: age of the card at the start of the period.
        product: index into ``PRODUCTS``.
    """

    payments_per_day: Float64
    spending: Float64
    age_days: Float64
    product: NDArray[np.int64]


def cards_of(card: NDArray[np.int64], seed: int) -> Cards:
    """Returns the habits of the cards with these numbers."""
    salt = splitmix64(np.array([seed], np.uint64))

    def draw(index: int) -> Float64:
        return unit_interval(splitmix64(splitmix64(card.view(np.uint64) ^ salt) + np.uint64(index)))

    return Cards(
        payments_per_day=0.4 + 2.2 * draw(0) ** 2,
        spending=np.exp(0.9 * (draw(1) + draw(2) + draw(3) - 1.5)),
        age_days=-700 * np.log1p(-draw(4)),
        product=np.searchsorted([0.6, 0.93], draw(5)),
    )
