"""Payments: the columns of one chunk of card transactions, drawn from the population."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.generators.chunks import random_stream
from qtool.data.generators.fraud import fraud_probability
from qtool.data.generators.population import (
    CASH_MACHINES,
    CATEGORIES,
    MERCHANTS,
    ONLINE,
    PHONE,
    Float64,
    Merchants,
    cards_of,
)

CHUNK_ROWS = 16_384
DAYS = 180
START = 1_704_067_200  # 2024-01-01T00:00:00Z
FIRST_CARD = 4_000_000_000
# Payments per hour of the day, relative.
HOURS = np.array(
    [3, 2, 1, 1, 1, 2, 4, 7, 9, 9, 10, 12, 14, 12, 10, 10, 11, 14, 15, 13, 10, 8, 6, 4]
)

Columns = dict[str, NDArray[Any]]


def make_chunk(
    total_rows: int, seed: int, chunk: int, merchants: Merchants
) -> tuple[Columns, Float64]:
    """Returns the columns of one chunk and the probability of fraud, shape (rows,).

    Text columns are codes: indices into ``COUNTRIES``, ``CHANNELS`` and ``PRODUCTS``. The random
    stream belongs to the seed and the chunk alone, and each draw is of the chunk's length.
    """
    random = random_stream(seed, chunk)
    first = chunk * CHUNK_ROWS
    rows = min(CHUNK_ROWS, total_rows - first)

    position = (first + np.arange(rows) + random.random(rows)) / total_rows
    seconds = _seconds(position)
    cards = max(1_000, total_rows // 20)
    card = (cards * random.random(rows) ** 1.5).astype(np.int64)
    habits = cards_of(card, seed)
    merchant = np.searchsorted(merchants.cumulative_share, random.random(rows))
    merchant = np.minimum(merchant, MERCHANTS - 1)
    category = merchants.category[merchant]
    channel = _channels(category, random)
    amount, ratio = _amounts(category, habits.spending, position, random)
    burst = np.where(random.random(rows) < 0.06, 1 + 9 * random.random(rows), 1.0)
    transactions = random.poisson(habits.payments_per_day * burst)
    values: Columns = {
        "timestamp": START + seconds,
        "card_id": FIRST_CARD + card,
        "merchant_id": merchant,
        "mcc": np.array([c.mcc for c in CATEGORIES])[category],
        "merchant_country": merchants.country[merchant],
        "channel": channel,
        "card_product": habits.product,
        "amount": amount,
        "amount_to_card_average": ratio,
        "transactions_24h": transactions,
        "minutes_since_last": np.round(
            1440 / (0.5 + transactions) * random.exponential(size=rows), 1
        ),
        "distance_from_home_km": _distances(rows, random),
        "hour_of_day": seconds // 3600 % 24,
        "device_age_days": _device_ages(rows, random),
        "card_age_days": np.floor(habits.age_days + DAYS * position),
        "declines_24h": random.poisson(np.where(random.random(rows) < 0.08, 1.2, 0.03)),
    }
    probability = fraud_probability(values, category, merchants.risk[merchant], position)
    values["is_fraud"] = random.random(rows) < probability
    return values, probability


def _seconds(position: Float64) -> NDArray[np.int64]:
    day, part = np.divmod(position * DAYS, 1.0)
    edges = np.concatenate([[0.0], np.cumsum(HOURS) / HOURS.sum()])
    hour = np.interp(part, edges, np.arange(25))
    return (day * 86_400).astype(np.int64) + np.minimum((hour * 3600).astype(np.int64), 86_399)


def _channels(category: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    online = random.random(len(category)) < np.array([c.online for c in CATEGORIES])[category]
    present = np.searchsorted([0.45, 0.97], random.random(len(category)))
    absent = np.where(random.random(len(category)) < 0.94, ONLINE, PHONE)
    cash = np.array([c.mcc == CASH_MACHINES for c in CATEGORIES])[category]
    return np.where(online, absent, np.where(cash, 0, present))


def _amounts(
    category: NDArray[np.int64], spending: Float64, position: Float64, random: np.random.Generator
) -> tuple[Float64, Float64]:
    rows = len(category)
    typical = np.array([c.median for c in CATEGORIES])[category] * spending
    sigma = np.array([c.sigma for c in CATEGORIES])[category]
    tail = np.where(random.random(rows) < 0.02, 1 + random.pareto(1.5, rows), 1.0)
    tiny = np.where(random.random(rows) < 0.03, 0.04, 1.0)
    deviation = np.exp(sigma * random.standard_normal(rows)) * tail * tiny
    amount = np.maximum(np.round(typical * deviation * (1 + 0.04 * position), 2), 0.01)
    return amount, np.round(amount / typical, 3)


def _distances(rows: int, random: np.random.Generator) -> Float64:
    scale = np.array([6.0, 90.0, 1800.0])[np.searchsorted([0.84, 0.96], random.random(rows))]
    return np.round(scale * random.exponential(size=rows), 1)


def _device_ages(rows: int, random: np.random.Generator) -> Float64:
    new = random.random(rows) < 0.1
    return np.floor(np.where(new, 6.0, 420.0) * random.exponential(size=rows))
