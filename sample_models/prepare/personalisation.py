"""Online Retail: the UCI table (CSV or Parquet), as what its customers order next."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.data.generators import shop_baskets, shop_orders
from qtool.data.generators.chunks import random_stream
from qtool.data.generators.shop_baskets import Catalogue
from qtool.data.generators.shop_orders import Ints
from qtool.data.hashing import hash_texts
from sample_models.prepare.segmentation import OnlineRetail, read_orders
from sample_models.prepare.tables import only

FEWEST_SALES = 5
"""Lines of a product that is an item: of fewer nothing can be learned."""
TRAINING = 0.65
"""Share of all lines that prices, sales and numbers of items are taken from: those that train."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns customers and items in the columns of ``shop_baskets``.

    Source: UCI Machine Learning Repository, "Online Retail" (Chen, Sain and Guo 2012).
    """
    found, catalogue = _items(read_orders(only(files)))
    rows = shop_baskets.customer_rows(
        found.lines, found.customers, found.countries, catalogue, random_stream(0, 0)
    )
    passed = rows["time"].to_numpy() - shop_orders.START
    days = np.quantile(passed / np.timedelta64(1, "D"), [shop_baskets.LISTED, 1])
    listings = [shop_baskets.item_rows(catalogue, float(day)) for day in days]
    return pa.Table.from_batches([*listings, rows])


def _items(found: OnlineRetail) -> tuple[OnlineRetail, Catalogue]:
    """Returns the lines of items, numbered by their sales, each once in an order; and the items."""
    lines = found.lines.take(found.lines.units > 0)
    count = len(found.descriptions) + 1
    _, first = np.unique(lines.order * count + lines.product, return_index=True)
    lines = lines.take(np.sort(first))
    known = lines.take(lines.day < np.quantile(lines.day, TRAINING))
    sales = np.bincount(known.product, minlength=count)
    products = np.argsort(-sales, kind="stable")
    products = products[sales[products] >= FEWEST_SALES]
    item = np.zeros(count, np.int64)
    item[products] = np.arange(1, len(products) + 1)
    prices = np.array([np.median(known.price[known.product == product]) for product in products])
    words = pa.array(
        [hashed(found.descriptions[product - 1]) for product in products], shop_baskets.WORD_LISTS
    )
    kept = lines.take(item[lines.product] > 0)
    kept = type(kept)(**{**vars(kept), "product": item[kept.product]})
    return found._replace(lines=kept), Catalogue(prices, sales[products].astype(float), words)


def hashed(description: str) -> Ints:
    """Returns the numbers of the words of a description, from 1 to below ``WORDS``.

    Source: Weinberger et al. 2009, "Feature hashing for large scale multitask learning", without
    the sign.
    """
    words = re.findall(r"[A-Z]+", description.upper())
    return (hash_texts(words) % np.uint64(shop_orders.WORDS - 1)).astype(np.int64) + 1
