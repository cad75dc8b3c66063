"""What a shop knows of its customers, month by month: profiles of their orders; seeded, streaming.

**What a row is.** One customer on one of the days ``SNAPSHOTS``: ``profiles`` of all orders until
then (recency, frequency, monetary value and what else marketing keeps: baskets, gaps, prices,
returns, product groups, hours), what the customer ordered in the ``AHEAD`` days after it, and the
``segment``. A value that the orders do not give yet, such as the gap between two, is missing.
``sample_models/prepare/segmentation.py`` makes the same columns of UCI *Online Retail* (Chen, Sain
and Guo 2012), where the segment is that of a rule of thumb.

**How it is made.** The orders are those of ``shop_orders``, and ``segment`` is whose habits they
have. Segments overlap, and a customer with one small order says little of its habits, so that no
clustering can find all of them. The same seed gives the same customers: more rows add customers and
change none, and the size of the batches plays no part.

Statistics, in brackets those of Online Retail (``tests/data/test_shop_customers.py`` holds the
claims): at the median 4 orders (4) of 320 pounds (310), 28 days apart (34), the last one 27 days
ago (23); in the next 90 days 33 % order nothing (21 %), and all on average for 1,850 pounds
(1,500). Boosted trees that know the segments of other customers find those of new ones with an
adjusted Rand index of 0.8; k-means on all columns with 0.5, on recency, frequency and monetary
value with 0.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators.chunks import cut, fingerprint
from qtool.data.generators.shop_orders import (
    CHUNK_CUSTOMERS,
    DAYS,
    GROUPS,
    KEPT_CHUNKS,
    SEGMENTS,
    START,
    Floats,
    Ints,
    Lines,
    make_lines,
    make_products,
    weekday,
)

VERSION = 1
"""Raised with every change of the rows, so that fingerprints change with them."""

AHEAD = 90
"""Days after a snapshot whose spending is known."""
SNAPSHOTS = tuple(range(DAYS - AHEAD - 180, DAYS - AHEAD + 1, 15))
"""Days since ``START`` on which customers are profiled."""
FEWEST_ORDERS = 3
"""Of a customer that is profiled: fewer show no habits."""
HOURS = ("until_10", "until_12", "until_14", "after_14")
"""Parts of the day."""
USUAL_SPEND, USUAL_ORDERS = 300.0, 3.0
"""Pounds and orders of the average customer that shares of groups and of hours begin with."""
BULK = 24
"""Units from which a line is a large one."""
PROFILE = (
    "recency_days",
    "tenure_days",
    "orders",
    "spend",
    "orders_90d",
    "spend_90d",
    "credit_notes",
    "returned_share",
    "mean_order",
    "largest_order",
    "order_variation",
    "mean_gap_days",
    "gap_variation",
    "mean_lines",
    "products",
    "repeat_share",
    "units",
    "units_per_line",
    "bulk_share",
    "mean_price",
    "price_spread",
    "sunday_share",
    "abroad",
    *(f"share_{group}" for group in GROUPS),
    *(f"orders_{part}" for part in HOURS),
)
"""Columns of ``profiles``."""
SCHEMA = pa.schema(
    [
        ("customer", pa.string()),
        ("date", pa.date32()),
        *((name, pa.float32()) for name in PROFILE),
        ("spend_next_90d", pa.float32()),
        ("segment", pa.string()),
    ]
)


@dataclass(frozen=True)
class ShopCustomers:
    """The source ``{generator: shop_customers, rows: …, seed: …}``."""

    rows: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call the source."""
        return f"shop_customers(rows={self.rows}, seed={self.seed})"

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return SCHEMA

    def fingerprint(self) -> str:
        """Returns the sha256 of kind, version, rows and seed."""
        return fingerprint("shop_customers", VERSION, self.rows, self.seed)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the customers, each with all its snapshots."""
        left, chunk = self.rows, 0
        while left:
            batch = make_chunk(self.seed, chunk).select(list(columns)).slice(0, left)
            yield from cut(batch, batch_rows)
            left, chunk = left - batch.num_rows, chunk + 1


@lru_cache(maxsize=KEPT_CHUNKS)
def make_chunk(seed: int, chunk: int) -> pa.RecordBatch:
    """Returns the rows of ``CHUNK_CUSTOMERS`` customers.

    The random stream belongs to the seed and the chunk alone.
    """
    products = make_products(seed)
    customers, lines = make_lines(seed, chunk, products)
    first = chunk * CHUNK_CUSTOMERS
    return profile_rows(
        lines,
        products.group[lines.product - 1],
        customers.abroad,
        np.arange(first, first + CHUNK_CUSTOMERS).astype(np.str_),
        np.array(SEGMENTS)[customers.segment],
    )


def profile_rows(
    lines: Lines,
    group: Ints,
    abroad: NDArray[np.bool_],
    names: NDArray[np.str_],
    segment: NDArray[np.str_] | None,
) -> pa.RecordBatch:
    """Returns customers on every snapshot from their third order on, in the columns of ``SCHEMA``.

    Args:
        lines: of all customers.
        group: of the product of each line, index into ``GROUPS``, (lines,).
        abroad: of each customer, (customers,).
        names: of the customers, (customers,).
        segment: of the customers, (customers,); None: that of ``rfm_segments``.
    """
    pieces = []
    for day in SNAPSHOTS:
        until, sold = lines.day < day, lines.units > 0
        profile = profiles(lines.take(until), group[until], abroad, float(day))
        known = np.flatnonzero(profile[:, PROFILE.index("orders")] >= FEWEST_ORDERS)
        values = profile[known]
        after = sold & ~until & (lines.day < day + AHEAD)
        ahead = _sums(lines.take(after), lines.units[after] * lines.price[after], len(abroad))
        names_of = rfm_segments(values) if segment is None else segment[known]
        pieces.append((known, np.full(len(known), day), values, ahead[known], names_of))
    customer, date, values, ahead, found = map(np.concatenate, zip(*pieces, strict=True))
    order = np.lexsort((date, customer))
    columns = {
        "customer": names[customer],
        "date": START.astype("datetime64[D]") + date,
        **dict(zip(PROFILE, values.T, strict=True)),
        "spend_next_90d": ahead,
        "segment": found,
    }
    arrays = [
        pa.array(columns[field.name][order], field.type, from_pandas=True) for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def profiles(lines: Lines, group: Ints, abroad: NDArray[np.bool_], day: float) -> Floats:
    """Returns the columns of ``PROFILE`` for every customer, float64 (customers, columns).

    NaN is what the orders do not give: all of a customer without any, the gaps of one with one.

    Args:
        lines: until ``day``, by customer and time.
        group: of the product of each line, (lines,).
        abroad: of each customer, (customers,).
        day: of the snapshot, days since ``START``.
    """
    count = len(abroad)
    sold, back = lines.take(lines.units > 0), lines.take(lines.units < 0)
    spend = _sums(sold, sold.units * sold.price, count)
    notes = back.take(np.unique(back.order, return_index=True)[1])
    of_group = group[lines.units > 0]
    by_group = [
        _sums(sold, sold.units * sold.price * (of_group == g), count) for g in range(len(GROUPS))
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "spend": spend,
            "abroad": abroad,
            "credit_notes": _sums(notes, 1, count),
            "returned_share": -_sums(back, back.units * back.price, count) / spend,
            **_of_lines(sold, day, count),
            **_of_orders(sold, day, count),
            **_shares(by_group, "share", GROUPS, USUAL_SPEND),
        }
    table: Floats = np.column_stack([found[name] for name in PROFILE]).astype(np.float64)
    table[found["orders"] == 0] = np.nan
    return table


def _of_lines(sold: Lines, day: float, count: int) -> dict[str, Floats]:
    """Returns what the lines of each customer say, by name, each (customers,)."""
    number = _sums(sold, 1, count)
    mean_log, spread_log = _moments(sold, np.log(sold.price), count)
    products_at_most = sold.product.max(initial=0) + 1
    pairs = np.unique(sold.customer * products_at_most + sold.product)
    products = np.bincount(pairs // products_at_most, minlength=count)
    return {
        "spend_90d": _sums(sold, sold.units * sold.price * (sold.day >= day - 90), count),
        "products": products.astype(np.float64),
        "repeat_share": 1 - products / number,
        "units": _sums(sold, sold.units, count),
        "units_per_line": np.exp(_moments(sold, np.log(sold.units), count)[0]),
        "bulk_share": _sums(sold, sold.units >= BULK, count) / number,
        "mean_price": np.exp(mean_log),
        "price_spread": spread_log,
    }


def _of_orders(sold: Lines, day: float, count: int) -> dict[str, Floats]:
    """Returns what the orders of each customer say, by name, each (customers,)."""
    _, first, of_line = np.unique(sold.order, return_index=True, return_inverse=True)
    # In the order of the lines: orders may be numbered across customers.
    by_time = np.argsort(first)
    orders = sold.take(first[by_time])
    value: Floats = np.bincount(of_line, sold.units * sold.price, len(first)).astype(np.float64)
    value = value[by_time]
    number = _sums(orders, 1, count)
    largest, begun, latest = np.zeros(count), np.full(count, np.inf), np.full(count, -np.inf)
    np.maximum.at(largest, orders.customer, value)
    np.minimum.at(begun, orders.customer, orders.day)
    np.maximum.at(latest, orders.customer, orders.day)
    followed = np.flatnonzero(np.diff(orders.customer) == 0)
    gaps = np.asarray(np.diff(orders.day)[followed], np.float64)
    mean, spread = _moments(orders, value, count)
    mean_gap, spread_gap = _moments(orders.take(followed), gaps, count)
    part = np.searchsorted([10, 12, 14], orders.day % 1 * 24, side="right")
    by_part = [_sums(orders, part == p, count) for p in range(len(HOURS))]
    return {
        "recency_days": day - latest,
        "tenure_days": day - begun,
        "orders": number,
        "orders_90d": _sums(orders, orders.day >= day - 90, count),
        "mean_order": mean,
        "largest_order": largest,
        "order_variation": np.where(number > 1, spread / mean, np.nan),
        "mean_gap_days": mean_gap,
        "gap_variation": np.where(number > 2, spread_gap / mean_gap, np.nan),
        "mean_lines": _sums(sold, 1, count) / number,
        "sunday_share": _sums(orders, weekday(orders.day) == 6, count) / number,
        **_shares(by_part, "orders", HOURS, USUAL_ORDERS),
    }


def _shares(
    parts: Sequence[Floats], what: str, names: Sequence[str], usual: float
) -> dict[str, Floats]:
    """Returns each customer's shares of its sum by name, drawn to those of all, each (customers,).

    One small order says little: it counts beside ``usual`` of what everybody does.

    Args:
        parts: of the sum, each (customers,).
        what: first part of the names.
        names: of the parts.
        usual: in the unit of the parts.
    """
    table = np.stack(parts)
    prior = table.sum(axis=1, keepdims=True) / max(table.sum(), 1.0)
    shares = (table + usual * prior) / (table.sum(axis=0) + usual)
    return {f"{what}_{name}": share for name, share in zip(names, shares, strict=True)}


def rfm_segments(values: Floats) -> NDArray[np.str_]:
    """Returns the segment of each profile by the rule of thumb of recency and frequency, (rows,).

    Source: Hughes 1994, "Strategic Database Marketing", whose scores are quintiles; of the usual
    names for their pairs the four corners, with new customers apart and the middle as one.

    Args:
        values: the columns of ``PROFILE``, (rows, columns).
    """
    days, orders, tenure = (
        values[:, PROFILE.index(name)] for name in ("recency_days", "orders", "tenure_days")
    )
    recent, frequent = days <= np.quantile(days, 0.4), orders >= max(2, np.quantile(orders, 0.6))
    return np.select(
        [recent & frequent, recent & (tenure <= 60), frequent, days > np.quantile(days, 0.7)],
        ["champions", "new", "at risk", "hibernating"],
        "promising",
    )


def _sums(lines: Lines, values: NDArray[np.generic] | float, count: int) -> Floats:
    """Returns the sum of the values of each customer, (customers,)."""
    weights = np.broadcast_to(values, lines.customer.shape).astype(np.float64)
    return np.bincount(lines.customer, weights, count).astype(np.float64)


def _moments(lines: Lines, values: Floats, count: int) -> tuple[Floats, Floats]:
    """Returns mean and standard deviation of the values of each customer, each (customers,)."""
    number = _sums(lines, 1.0, count)
    mean = _sums(lines, values, count) / number
    apart = values - mean[lines.customer]
    return mean, np.sqrt(_sums(lines, apart**2, count) / number)
