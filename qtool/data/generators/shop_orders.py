"""Orders at a wholesaler of gifts, line by line: what ``shop_customers`` and ``shop_baskets`` read.

Its model is UCI *Online Retail* (Chen, Sain and Guo 2012), a year of orders of shops and private
customers. A catalogue of ``PRODUCTS`` follows from the seed alone, customers come in chunks of
``CHUNK_CUSTOMERS``, each with a random stream of its own, so that more customers change none.

**Products** are numbered by how often they are sold, from 1. They come in families, such as one bag
in six colours, which share most words of their description, and in product groups.

**Customers** belong to one of the ``SEGMENTS``, around whose habits each has habits of its own, so
that segments overlap. An order is a walk: the next line is often of the family of the one before,
or a favourite that is ordered again, else what the customer and the season like.

Statistics of 8,192 customers, in brackets those of Online Retail
(``tests/data/test_shop_orders.py`` holds the claims): 3.7 orders of a customer (4.2), the median is
2 (2), 39 % have one (35 %); 14 lines of an order at the median (15), 43 in one of ten (46); 5 units
of a line at the median (6), 136 in one of a hundred (128); 480 pounds of a customer at the median
and 2,100 on average (670 and 2,000). There are 0.17 credit notes for each order (0.18), with 2.7 %
of the lines (2.1 %). The first 100 products have 23 % of the lines (22 %), the first 1,000 81 % (79
%); 24 % of the lines are of a product that the customer has ordered before (32 %). In October and
November twice as much is ordered as in spring (2.0).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qtool.data.generators.chunks import random_stream

START = np.datetime64("2010-12-01T00:00", "s")
DAYS = 374
PRODUCTS = 2800
CHUNK_CUSTOMERS = 1024
KEPT_CHUNKS = 8
"""Chunks of rows that stay in memory, up to 6 MB each: a run reads its rows some forty times."""
GROUPS = ("kitchen", "home", "other", "paper", "bags", "light", "christmas", "children")
"""Of products."""
CHRISTMAS = GROUPS.index("christmas")
SEGMENTS = (
    "wholesalers",
    "regular shops",
    "occasional buyers",
    "collectors",
    "christmas shops",
    "lapsed",
)
WORDS = 2048
"""Numbers of words of descriptions; 0 is for padding."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_SHARE = np.array([0.05, 0.22, 0.35, 0.14, 0.12, 0.12])
_YEARLY = np.array([17.0, 8.0, 2.5, 3.5, 3.0, 4.0])
_LINES = np.array([16.0, 17.0, 10.0, 30.0, 13.0, 11.0])
_UNITS = np.array([44.0, 12.0, 5.0, 2.2, 9.0, 7.0])
_RETURNING = np.array([0.33, 0.22, 0.13, 0.30, 0.13, 0.33])
_HOUR = np.array([11.0, 12.0, 13.2, 14.2, 12.5, 12.8])
_SUNDAY = np.array([0.02, 0.08, 0.24, 0.30, 0.12, 0.12])
_AGAIN = np.array([0.52, 0.44, 0.26, 0.18, 0.24, 0.20])
_PROFILE = np.array(
    [
        [0.24, 0.12, 0.10, 0.05, 0.38, 0.04, 0.03, 0.04],
        [0.46, 0.22, 0.12, 0.06, 0.05, 0.04, 0.03, 0.02],
        [0.14, 0.42, 0.14, 0.06, 0.06, 0.11, 0.03, 0.04],
        [0.16, 0.14, 0.16, 0.31, 0.06, 0.05, 0.03, 0.09],
        [0.14, 0.14, 0.12, 0.13, 0.05, 0.16, 0.22, 0.04],
        [0.18, 0.14, 0.42, 0.08, 0.06, 0.05, 0.02, 0.05],
    ]
)
"""Habits of each segment: share of the customers, orders a year, lines of an order, units of a
line, credit notes per order, hour, share of Sundays, lines that are favourites, product groups."""
_FAMILY = 0.3
"""Share of lines that are of the family of the line before."""
_FAVOURITES = 16
_MOST_LINES = 160


@dataclass(frozen=True, eq=False)
class Products:
    """The catalogue; product ``i`` is in place ``i - 1``.

    Attributes:
        group: index into ``GROUPS``, (products,).
        family: equal for variants of one thing, (products,).
        price: of a unit, in pounds, (products,).
        share: of all lines that are sold, descending, (products,).
        words: numbers of the words of the description, (products, 4).
    """

    group: Ints
    family: Ints
    price: Floats
    share: Floats
    words: Ints

    def __len__(self) -> int:
        return len(self.price)


@dataclass(frozen=True, eq=False)
class Customers:
    """The customers of a chunk.

    Attributes:
        segment: index into ``SEGMENTS``, (customers,).
        abroad: whether outside of the United Kingdom, (customers,).
    """

    segment: Ints
    abroad: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of orders and of credit notes, by customer and time, in the order of their entry.

    Attributes:
        customer: index of the customer, (lines,).
        order: equal for the lines of one order or credit note, ascending, (lines,).
        day: days since ``START``, with the time of day, (lines,).
        product: number of the product, (lines,).
        units: of the product; negative on a credit note, (lines,).
        price: of a unit, in pounds, (lines,).
    """

    customer: Ints
    order: Ints
    day: Floats
    product: Ints
    units: Ints
    price: Floats

    def take(self, index: NDArray[np.generic]) -> Lines:
        """Returns the lines that ``index`` (positions, or a mask) selects."""
        return Lines(
            self.customer[index],
            self.order[index],
            self.day[index],
            self.product[index],
            self.units[index],
            self.price[index],
        )


def make_products(seed: int, count: int = PRODUCTS) -> Products:
    """Returns a catalogue of ``count`` products."""
    random = random_stream(seed, 0)
    rank = np.arange(count)
    share = (rank + 0.02 * count) ** -0.6 * np.exp(-2.2 * rank / count)
    family = random.permutation(count) // 6
    families = family.max() + 1
    mix = _SHARE @ _PROFILE
    group = random.choice(len(GROUPS), families, p=mix / mix.sum())[family]
    level = np.log(1.95) + 0.8 * random.standard_normal(families)
    price = np.exp(level[family] + 0.35 * random.standard_normal(count))
    # A word of the group, two of the family and one of the variant: RED, BLUE, …
    own = random.integers(64, WORDS, (families, 2))[family]
    words = np.column_stack([group + 1, own, 16 + random.integers(0, 48, count)])
    cents = np.maximum(np.round(price, 2), 0.1)
    return Products(group, family, cents, share / share.sum(), words)


def make_lines(seed: int, chunk: int, products: Products) -> tuple[Customers, Lines]:
    """Returns the customers of a chunk and all their lines.

    The random stream belongs to the seed and the chunk alone.
    """
    random = random_stream(seed, 1 + chunk)
    count = CHUNK_CUSTOMERS
    segment = random.choice(len(SEGMENTS), count, p=_SHARE)
    abroad = random.random(count) < 0.1
    customer, day = _orders(segment, random)
    size = _LINES[segment] * np.exp(0.4 * random.standard_normal(count))
    lines = size[customer] * np.exp(0.8 * random.standard_normal(len(customer)))
    lines = np.clip(np.ceil(lines), 1, _MOST_LINES).astype(np.int64)
    order, product = _walks(segment, customer, day, lines, products, random)
    usual = _UNITS[segment] * np.exp(0.4 * random.standard_normal(count))
    # Cheap things are bought by the dozen.
    price = products.price[product - 1]
    wanted = usual[customer[order]] * price**-0.5
    wanted *= np.exp(0.8 * random.standard_normal(len(order)))
    # A few lines are of a whole pallet.
    wanted *= np.where(random.random(len(order)) < 0.002, random.pareto(1.5, len(order)) * 5 + 1, 1)
    units = np.clip(np.round(wanted), 1, 50_000).astype(np.int64)
    price = np.round(price * np.where(units >= 48, 0.85, 1.0), 2)
    sold = Lines(customer[order], order, day[order], product, units, price)
    back = _credit_notes(sold, _RETURNING[segment], random)
    both = _joined(sold, back)
    both = both.take(np.lexsort((both.order, both.day, both.customer)))
    number = np.append(0, np.cumsum(np.diff(both.order) != 0))
    return Customers(segment, abroad), replace(both, order=number)


def weekday(day: Floats) -> Floats:
    """Returns 0 for a Monday to 6 for a Sunday, of days since ``START``, a Wednesday."""
    return (np.floor(day) + 2) % 7


def season(day: Floats) -> Floats:
    """Returns how much is ordered on a day of the year of the data, 1 in spring."""
    autumn = 0.7 * np.exp(-(((day - 345) / 40) ** 2))
    return np.where(day > DAYS - 5, 0.6, 1 + autumn)


def _christmas(day: Floats) -> Floats:
    """Returns how much is bought for Christmas on a day, 1 in spring."""
    before = np.exp(-(((day - 335) / 38) ** 2)) + np.exp(-((day / 16) ** 2))
    return 1 + 9 * before


def _orders(segment: Ints, random: np.random.Generator) -> tuple[Ints, Floats]:
    """Returns customer and time of every order, by customer and time."""
    count = len(segment)
    # A quarter has ordered before, and soon does so again.
    known = random.random(count) < 0.25
    first = np.where(known, 45 * random.exponential(1, count), (DAYS - 5) * random.random(count))
    first = np.minimum(first, DAYS - 5)
    life = np.where(segment == 5, 40 * random.exponential(1, count), 1000 * random.random(count))
    last = np.minimum(first + life, DAYS)
    rate = _YEARLY[segment] / 365 * random.gamma(1.2, 1 / 1.2, count)
    grid = np.arange(DAYS + 1.0)
    counts, drawn = np.zeros(count, np.int64), np.empty(count, object)
    for christmas in (False, True):
        chosen = np.flatnonzero((segment == 4) == christmas)
        weight = season(grid[:-1]) * (_christmas(grid[:-1]) / 3 if christmas else 1)
        total = np.append(0, np.cumsum(weight))
        begin, end = (np.interp(x[chosen], grid, total) for x in (first, last))
        # The first order is what makes a customer.
        counts[chosen] = 1 + random.poisson(rate[chosen] * (end - begin))
        for place, low, high in zip(chosen, begin, end, strict=True):
            spread = low + (high - low) * random.random(counts[place] - 1)
            days = np.interp(np.append(low, spread), total, grid)
            drawn[place] = np.sort(np.minimum(np.floor(days), DAYS - 1))
    customer, day = np.repeat(np.arange(count), counts), np.concatenate(list(drawn))
    sunday = random.random(len(day)) < _SUNDAY[segment[customer]]
    # Nothing is ordered on Saturdays.
    drawn_for = weekday(day)
    working = np.where(drawn_for < 5, drawn_for, random.integers(0, 5, len(day)))
    day = np.clip(day - drawn_for + np.where(sunday, 6, working), 0, DAYS - 1)
    hour = _HOUR[segment] + 1.2 * random.standard_normal(count)
    time = np.clip(hour[customer] + 1.3 * random.standard_normal(len(day)), 6, 20)
    day = day + time / 24
    ordered = np.lexsort((day, customer))
    return customer[ordered], day[ordered]


def _walks(
    segment: Ints,
    customer: Ints,
    day: Floats,
    lines: Ints,
    products: Products,
    random: np.random.Generator,
) -> tuple[Ints, Ints]:
    """Returns order and product of every line, by order; no product is twice in an order."""
    liked = random.gamma(15 * _PROFILE[segment])
    liked /= liked.sum(axis=1, keepdims=True)
    choose = _Chooser(products)
    favourites = choose.by_group(np.repeat(liked, _FAVOURITES, axis=0), random)
    favourites = favourites.reshape(-1, _FAVOURITES)
    now = liked[customer]
    now[:, CHRISTMAS] *= _christmas(day) / 2.2
    now /= now.sum(axis=1, keepdims=True)
    again = _AGAIN[segment[customer]]
    walk = np.zeros((len(customer), int(lines.max())), np.int64)
    for step in range(walk.shape[1]):
        active = np.flatnonzero(lines > step)
        kind = random.random(len(active))
        favourite = favourites[customer[active], random.integers(0, _FAVOURITES, len(active))]
        found = np.where(kind < again[active], favourite, choose.by_group(now[active], random))
        if step:
            related = choose.related(walk[active, step - 1], random)
            found = np.where(kind > 1 - _FAMILY, related, found)
        walk[active, step] = found
    order, place = np.nonzero(np.arange(walk.shape[1]) < lines[:, None])
    product = walk[order, place]
    _, first = np.unique(order * (len(products) + 1) + product, return_index=True)
    first.sort()
    return order[first], product[first]


class _Chooser:
    """Draws products of a catalogue."""

    def __init__(self, products: Products) -> None:
        self.by_groups = np.argsort(products.group, kind="stable")
        self.cumulative = np.append(0, np.cumsum(products.share[self.by_groups]))
        ends = np.cumsum(np.bincount(products.group, minlength=len(GROUPS)))
        self.ends = self.cumulative[np.append(0, ends)]
        self.by_family = np.argsort(products.family, kind="stable")
        self.place = np.argsort(self.by_family)
        self.size = np.bincount(products.family)[products.family]
        self.begin = np.searchsorted(products.family[self.by_family], products.family)

    def by_group(self, shares: Floats, random: np.random.Generator) -> Ints:
        """Returns one product for each row of ``shares`` (rows, groups), by its popularity."""
        drawn = random.random(len(shares))[:, None] < np.cumsum(shares, axis=1)
        group = np.where(drawn.any(axis=1), drawn.argmax(axis=1), len(GROUPS) - 1)
        low, high = self.ends[group], self.ends[group + 1]
        where = low + (high - low) * random.random(len(shares))
        place = np.searchsorted(self.cumulative, where, side="right") - 1
        found: Ints = self.by_groups[np.minimum(place, len(self.by_groups) - 1)] + 1
        return found

    def related(self, product: Ints, random: np.random.Generator) -> Ints:
        """Returns another product of the family of each, (rows,)."""
        index = product - 1
        size, begin = self.size[index], self.begin[index]
        step = 1 + np.floor(random.random(len(index)) * np.maximum(size - 1, 1)).astype(np.int64)
        found: Ints = self.by_family[begin + (self.place[index] - begin + step) % size] + 1
        return found


def _joined(first: Lines, second: Lines) -> Lines:
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return Lines(*(np.concatenate(pair) for pair in pairs))


def _credit_notes(sold: Lines, share: Floats, random: np.random.Generator) -> Lines:
    """Returns lines of orders that come back, up to a fortnight later."""
    orders, first = np.unique(sold.order, return_index=True)
    back = random.random(len(orders)) < share[sold.customer[first]]
    chosen = back[sold.order] & (random.random(len(sold.order)) < 0.12)
    lines = sold.take(chosen)
    later = 1 + 13 * random.random(len(orders))
    units = -np.ceil(lines.units * random.random(len(lines.units))).astype(np.int64)
    order, day = lines.order + len(orders), lines.day + later[lines.order]
    returned = Lines(lines.customer, order, day, lines.product, units, lines.price)
    return returned.take(day < DAYS)
