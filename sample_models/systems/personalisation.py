"""Ten recommendations: what they sell, and how far from the best sellers they go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.evaluation.system import Predict

Array = NDArray[np.float64]


def recommendations(
    fp32: Predict, int8: Predict, rows: Batch, shown: int = 10
) -> dict[str, tuple[Array, Array]]:
    """Returns two figures of every customer that asks, with FP32 and with INT8, each (customers,).

    * ``revenue``: price of the item that is ordered next where it is among the items shown, else 0.
    * ``novelty``: mean of -log2 of the share of all sales that the items shown have.
      Source: Zhou et al. 2010, "Solving the apparent diversity-accuracy dilemma of recommender
      systems", PNAS 107(10).

    Args:
        fp32: the model that is replaced; it returns one vector for each row.
        int8: the model that replaces it.
        rows: customers and items, with the columns ``is_customer``, ``item``, ``price`` and
            ``sales``.
        shown: items that a customer is shown.
    """
    asks = rows.columns["is_customer"] > 0
    item, price, sales = (rows.columns[name] for name in ("item", "price", "sales"))
    surprise = -np.log2((sales + 1) / (sales[~asks] + 1).sum())

    def figures(model: Predict) -> tuple[Array, Array]:
        vectors = next(iter(model(rows.inputs).values()))
        best = top(vectors[asks], vectors[~asks], shown)
        hit = (item[~asks][best] == item[asks][:, None]).any(axis=1)
        return hit * price[asks], surprise[~asks][best].mean(axis=1)

    (revenue, novelty), (revenue_int8, novelty_int8) = figures(fp32), figures(int8)
    return {"revenue": (revenue, revenue_int8), "novelty": (novelty, novelty_int8)}


def top(queries: NDArray[Any], items: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Returns the items with the largest cosine, in any order, (queries, count)."""
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    return np.argpartition(-(queries @ unit.T), count - 1, axis=1)[:, :count]
