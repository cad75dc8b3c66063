"""Fraud: the true probability that a payment is fraudulent, from which the label is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.generators.population import (
    CASH_MACHINES,
    CATEGORIES,
    MAGSTRIPE,
    ONLINE,
    PREPAID,
    Float64,
)

# Chosen so that about 1 % of the payments are fraud and the best possible AUC is about 0.95.
SLOPE, INTERCEPT = 1.2, -7.6


def fraud_probability(
    values: dict[str, NDArray[Any]],
    category: NDArray[np.int64],
    merchant_risk: Float64,
    position: Float64,
) -> Float64:
    """Returns the probability from which the label is drawn, shape (rows,).

    Args:
        values: the columns, text as codes.
        category: index into ``CATEGORIES``.
        merchant_risk: log-odds of the merchant.
        position: place of the row in the period, 0 to 1; the patterns drift with it.
    """
    v = values
    online = v["channel"] >= ONLINE
    stripe = v["channel"] == MAGSTRIPE
    habit = np.log(np.maximum(v["amount_to_card_average"], 1e-3))
    new_device = np.exp(-v["device_age_days"] / 6.0)
    far = np.log1p(v["distance_from_home_km"] / 25.0)
    night = (v["hour_of_day"] < 5) | (v["hour_of_day"] >= 23)
    testing = online & (v["amount"] < 4.0) & (v["transactions_24h"] >= 4)
    recent = v["minutes_since_last"] < 60
    logit = (
        np.array([c.risk for c in CATEGORIES])[category]
        + merchant_risk
        + np.where(online, (3.6 - 1.0 * position) * new_device, 0.0)
        + np.where(online, 0.0, 0.75 * far * (1 + stripe))
        + (3.0 + 2.0 * position) * testing
        + 0.9 * np.minimum(np.abs(habit + 0.3), 3.0) ** 1.5
        + np.minimum(v["declines_24h"], 4) * np.where(recent, 1.6, 0.3)
        + np.where(night & (online | (v["mcc"] == CASH_MACHINES)), 1.5, 0.0)
        + np.where((v["card_age_days"] < 60) & (v["card_product"] == PREPAID), 1.5, 0.0)
        + np.where((v["transactions_24h"] >= 6) & recent, 1.6, 0.0)
    )
    probability: Float64 = 1 / (1 + np.exp(-(SLOPE * logit + INTERCEPT)))
    return probability
