"""What the customers of a shop order next, and what there is to order: seeded, streaming.

**What a row is.** A customer who has just entered the ``history`` of lines, the latest first, of
this order and of earlier ones (``last_words`` describe the latest), and enters ``item`` next; or an
item of the catalogue. Both kinds have number, price, sales and words of the item, so that a row of
a customer is a pair to train with: a model that answers for a customer must not look at them.
``wanted`` is the number once more, as the label of both kinds. The catalogue comes first and twice,
as listed on two days: split by ``time`` into 60 % training, 10 % calibration and 30 % evaluation,
calibration and evaluation have every item once, and training has pairs only.
``sample_models/prepare/personalisation.py`` makes the same columns of UCI *Online Retail* (Chen,
Sain and Guo 2012).

**How it is made.** The orders are those of ``shop_orders``; of each, ``TARGETS`` lines with
``FEWEST`` lines before them are asked for. One of 24 rows is an item, with ``PRODUCTS`` at most. Of
a given catalogue the same seed gives the same customers, and the size of the batches plays no part.

Statistics of 128,000 rows, in brackets those of Online Retail (``tests/data/test_shop_baskets.py``
holds the claims): 2,666 items (2,919), 17 lines in a history (17), which hold the item asked for in
7 % (11 %); 26 % of the items are a variant of the one before, with the first three words in common.
Among the items, that of a customer is one of the ten with the most sales for 2.1 % (3.2 %), one of
the first ten by item-to-item cosine for 25 % (26 %), and by a truncated SVD for 15 % (17 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint, random_stream
from qtool.data.generators.shop_orders import (
    CHUNK_CUSTOMERS,
    DAYS,
    KEPT_CHUNKS,
    PRODUCTS,
    START,
    Floats,
    Ints,
    Lines,
    make_lines,
    make_products,
)

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

PAST = 20
"""Lines of a history at most."""
FEWEST = 3
"""Lines that a customer has entered before it is asked for the next."""
TARGETS = 8
"""Lines of an order that are asked for at most."""
ROWS_PER_PRODUCT = 48
LISTED = 0.668
"""Share of the customers' rows before the catalogue is listed for calibration: the middle of those
between 60 % and 70 % of all rows, when each catalogue is one of ``ROWS_PER_PRODUCT``."""
CATALOGUE = "catalogue"
"""Customer of the rows of items."""
WORD_LISTS = pa.list_(pa.int32())
SCHEMA = pa.schema(
    [
        ("customer", pa.string()),
        ("time", pa.timestamp("ms")),
        ("is_customer", pa.bool_()),
        ("history", pa.list_(pa.int32())),
        ("last_words", WORD_LISTS),
        ("country", pa.string()),
        ("item", pa.int32()),
        ("price", pa.float32()),
        ("sales", pa.float32()),
        ("words", WORD_LISTS),
        ("wanted", pa.int32()),
    ]
)
LISTED_DAY = 305.5
"""Days since ``START`` until the share ``LISTED`` of the generated rows."""
LINES_SOLD = 200_000
"""Of the catalogue, when ``sales`` were counted."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What is known of the items, by their number.

    Attributes:
        price: of a unit, (items,).
        sales: lines sold while the training rows were, (items,).
        words: numbers of the words of the description, list<int32> (items,).
    """

    price: Floats
    sales: Floats
    words: pa.ListArray


@dataclass(frozen=True)
class ShopBaskets:
    """The source ``{generator: shop_baskets, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"shop_baskets(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("shop_baskets", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields both listings of the catalogue, then the customers."""
        items = max(1, min(PRODUCTS, self.rows // ROWS_PER_PRODUCT))
        left, chunk = self.rows, 0
        while left:
            rows = make_chunk(self.seed, chunk, items).select(list(columns)).slice(0, left)
            yield from cut(rows, batch_rows)
            left, chunk = left - rows.num_rows, chunk + 1


@lru_cache(maxsize=KEPT_CHUNKS)
def make_chunk(seed: int, chunk: int, items: int) -> pa.RecordBatch:
    """Returns the rows of ``CHUNK_CUSTOMERS`` customers; before the first ones, both catalogues."""
    products = make_products(seed, items)
    sales = np.round(LINES_SOLD * products.share)
    catalogue = Catalogue(products.price, sales, pa.array(list(products.words), WORD_LISTS))
    customers, lines = make_lines(seed, chunk, products)
    first = chunk * CHUNK_CUSTOMERS
    rows = customer_rows(
        lines,
        np.arange(first, first + CHUNK_CUSTOMERS).astype(np.str_),
        np.where(customers.abroad, "abroad", "United Kingdom"),
        catalogue,
        # A stream that no chunk of customers has.
        random_stream(seed, 2**32 + chunk),
    )
    if chunk:
        return rows
    # The last listing is that of the day after all orders.
    listings = [item_rows(catalogue, day) for day in (LISTED_DAY, float(DAYS))]
    return pa.concat_batches([*listings, rows])


def item_rows(catalogue: Catalogue, day: float) -> pa.RecordBatch:
    """Returns the catalogue as of a day since ``START``, in the columns of ``SCHEMA``."""
    count = len(catalogue.price)
    nothing = _lists(np.zeros(count + 1, np.int64), np.empty(0, np.int64))
    return _batch(
        np.full(count, CATALOGUE),
        np.full(count, day),
        nothing,
        nothing,
        np.full(count, ""),
        np.arange(1, count + 1),
        catalogue,
    )


def customer_rows(
    lines: Lines,
    names: NDArray[np.str_],
    countries: NDArray[np.str_],
    catalogue: Catalogue,
    random: np.random.Generator,
) -> pa.RecordBatch:
    """Returns the lines that are asked for, by customer and time, in the columns of ``SCHEMA``.

    Args:
        lines: of orders and credit notes, by customer and time; products are items.
        names: of the customers, (customers,).
        countries: of the customers, (customers,).
        catalogue: of all products.
        random: which lines of an order are asked for.
    """
    sold = lines.take(lines.units > 0)
    place = np.arange(len(sold.order))
    begin = np.searchsorted(sold.customer, sold.customer)
    drawn = np.where(place - begin >= FEWEST, random.random(len(place)), np.inf)
    # The smallest numbers of each order.
    by_order = np.lexsort((drawn, sold.order))
    orders = sold.order[by_order]
    rank = place - np.searchsorted(orders, orders)
    asked = np.sort(by_order[(rank < TARGETS) & (drawn[by_order] < np.inf)])
    lengths = np.minimum(asked - begin[asked], PAST)
    offsets = np.append(0, np.cumsum(lengths))
    ago = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    entered = sold.product[np.repeat(asked, lengths) - 1 - ago]
    customer = sold.customer[asked]
    return _batch(
        names[customer],
        sold.day[asked],
        _lists(offsets, entered),
        catalogue.words.take(pa.array(sold.product[asked - 1] - 1)),
        countries[customer],
        sold.product[asked],
        catalogue,
    )


def _batch(
    names: NDArray[np.str_],
    day: Floats,
    histories: pa.ListArray,
    last_words: pa.ListArray,
    countries: NDArray[np.str_],
    items: Ints,
    catalogue: Catalogue,
) -> pa.RecordBatch:
    passed = np.round(day * 86_400).astype("timedelta64[s]")
    columns: dict[str, Any] = {
        "customer": names,
        "time": (START + passed).astype("datetime64[ms]"),
        "is_customer": names != CATALOGUE,
        "history": histories,
        "last_words": last_words,
        "country": countries,
        "item": items,
        "wanted": items,
        "price": catalogue.price[items - 1],
        "sales": catalogue.sales[items - 1],
        "words": catalogue.words.take(pa.array(items - 1)),
    }
    arrays = [pa.array(columns[field.name], field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _lists(offsets: Ints, values: Ints) -> pa.ListArray:
    """Returns the lists of ``values`` between one offset and the next, list<int32>."""
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(values.astype(np.int32))
    )
