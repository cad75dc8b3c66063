"""Online Retail: the UCI table (CSV or Parquet), as profiles of its customers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from qtool.data.generators import shop_customers, shop_orders
from qtool.data.generators.shop_orders import Lines
from sample_models.prepare.tables import only, read_table

HOME = "United Kingdom"
GROUP_WORDS = {
    "christmas": "CHRISTMAS|XMAS|ADVENT|SANTA|REINDEER|SNOW|TREE",
    "bags": "BAG|SHOPPER|PURSE|TOTE",
    "kitchen": "CAKE|TEA|MUG|BOWL|PLATE|JAR|TIN|LUNCH|KITCHEN|JUG|SPOON|CUP|RECIPE|BAKING|BOTTLE",
    "paper": "CARD|PAPER|WRAP|BOOK|STICKER|TISSUE|PEN|RIBBON",
    "light": "LIGHT|CANDLE|LAMP|LANTERN|HOLDER|INCENSE",
    "children": "TOY|DOLL|GAME|CHILD|BABY|PUPPET|KIDS|SPACEBOY|CIRCUS|RABBIT|PLAY|BALL",
    "home": "SIGN|CLOCK|FRAME|DOOR|CUSHION|HOOK|DRAWER|CABINET|MIRROR|HANGER|GARDEN|BOX|HEART",
}
"""What descriptions of a product group hold; the first group that fits counts."""


class OnlineRetail(NamedTuple):
    """What customers with a number ordered, of products and not of services such as postage.

    Attributes:
        lines: of all customers, by customer and time; products are numbered by their stock codes.
        customers: names, (customers,).
        countries: of the customers, (customers,).
        descriptions: of product 1, 2, …
    """

    lines: Lines
    customers: NDArray[np.str_]
    countries: NDArray[np.str_]
    descriptions: list[str]


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the customers in the columns of ``shop_customers``.

    The segment is that of ``shop_customers.rfm_segments``: nobody knows a true one.

    Source: UCI Machine Learning Repository, "Online Retail" (Chen, Sain and Guo 2012).
    """
    found = read_orders(only(files))
    groups = np.array([group_of(text) for text in found.descriptions])
    rows = shop_customers.profile_rows(
        found.lines,
        groups[found.lines.product - 1],
        found.countries != HOME,
        found.customers,
        segment=None,
    )
    return pa.Table.from_batches([rows])


def read_orders(file: Path) -> OnlineRetail:
    """Returns the lines of orders and credit notes whose customer and product are known."""
    table = read_table(file)
    codes = pc.cast(table["StockCode"], pa.string())
    product = pc.match_substring_regex(codes, r"^\d{5}")
    priced = pc.and_(pc.greater(table["UnitPrice"], 0), pc.not_equal(table["Quantity"], 0))
    known = pc.and_(pc.is_valid(table["CustomerID"]), pc.and_(product, priced))
    table = table.filter(known)
    values: dict[str, NDArray[Any]] = {
        name: table[name].combine_chunks().to_numpy(zero_copy_only=False)
        for name in table.column_names
    }
    customers, customer = np.unique(values["CustomerID"].astype(np.int64), return_inverse=True)
    _, order = np.unique(values["InvoiceNo"].astype(np.str_), return_inverse=True)
    stock, named, code = np.unique(
        values["StockCode"].astype(np.str_), return_index=True, return_inverse=True
    )
    assert len(stock) == len(named)
    seconds = (values["InvoiceDate"].astype("datetime64[s]") - shop_orders.START).astype(np.int64)
    lines = Lines(
        customer,
        order,
        seconds / 86_400,
        code + 1,
        values["Quantity"].astype(np.int64),
        values["UnitPrice"].astype(np.float64),
    )
    _, first = np.unique(customer, return_index=True)
    return OnlineRetail(
        lines.take(np.lexsort((lines.order, lines.day, lines.customer))),
        customers.astype(np.str_),
        values["Country"].astype(np.str_)[first],
        [str(text) for text in values["Description"][named]],
    )


def group_of(description: str) -> int:
    """Returns the product group of a description, index into ``shop_orders.GROUPS``."""
    text = description.upper()
    found = (name for name, words in GROUP_WORDS.items() if re.search(words, text))
    return shop_orders.GROUPS.index(next(found, "other"))
