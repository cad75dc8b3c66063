from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource, TimeSplit
from qtool.data.blocks import read_blocks
from qtool.data.generators.shop_baskets import (
    CATALOGUE,
    FEWEST,
    PAST,
    ROWS_PER_PRODUCT,
    SCHEMA,
    TARGETS,
    WORD_LISTS,
    Catalogue,
    ShopBaskets,
    customer_rows,
    item_rows,
)
from qtool.data.generators.shop_orders import Lines
from qtool.data.source import open_source
from qtool.data.split import assign, resolve_split

ITEMS = 200
ROWS = ITEMS * ROWS_PER_PRODUCT


def table(source: ShopBaskets, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    return table(ShopBaskets(ROWS, seed=7))


def test_a_config_opens_it():
    section = GeneratorSource(generator="shop_baskets", rows=10, seed=3)
    source = open_source(section)
    assert source == ShopBaskets(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(300, 10_000))
def test_the_size_of_the_batches_changes_nothing(rows, batch_rows):
    batches = list(ShopBaskets(ROWS, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(rows)


def test_seed_and_rows_decide_the_fingerprint():
    sources = [ShopBaskets(10, 7), ShopBaskets(11, 7), ShopBaskets(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3


@pytest.mark.parametrize("seed", [7, 8])
def test_calibration_and_evaluation_have_every_item_once(seed):
    source = ShopBaskets(ROWS, seed)
    split = resolve_split(source, TimeSplit(by="time", column="time", evaluation=0.3))
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for block in read_blocks(source, ["time", "is_customer", "item"], 65_536):
        items = ~block.columns["is_customer"].to_numpy(zero_copy_only=False)
        for part, item in zip(
            assign(block, split)[items], block.columns["item"].to_numpy()[items], strict=True
        ):
            found[part].append(item)
    every = list(range(1, ITEMS + 1))
    assert found[0] == []
    assert found[1] == found[2] == every


def catalogue(count):
    words = pa.array([[i, i + 1] for i in range(1, count + 1)], WORD_LISTS)
    return Catalogue(np.arange(1.0, count + 1), np.arange(10.0, count + 10), words)


def test_rows_of_a_customer_by_hand():
    product = np.array([5, 3, 8, 1, 2, 4, 6])
    lines = Lines(
        customer=np.array([0, 0, 0, 0, 0, 1, 1]),
        order=np.array([0, 0, 0, 1, 1, 2, 2]),
        day=np.array([1.5, 1.5, 1.5, 2.5, 2.5, 3.0, 3.0]),
        product=product,
        units=np.array([1, 1, 1, 1, 1, 1, 1]),
        price=np.ones(7),
    )
    names, countries = np.array(["a", "b"]), np.array(["EIRE", "France"])
    random = np.random.default_rng(0)
    first, second = customer_rows(lines, names, countries, catalogue(8), random).to_pylist()
    assert first["customer"] == "a"
    assert first["time"].isoformat() == "2010-12-03T12:00:00"
    assert first["history"] == [8, 3, 5]
    assert first["last_words"] == [8, 9]
    assert (first["item"], first["wanted"], first["price"], first["sales"]) == (1, 1, 1, 10)
    assert first["words"] == [1, 2]
    assert (second["history"], second["item"]) == ([1, 8, 3, 5], 2)
    assert second["country"] == "EIRE"


def test_a_credit_note_is_no_line():
    units = np.array([1, 1, 1, -1, 1])
    lines = Lines(
        np.zeros(5, int), np.array([0, 0, 0, 1, 2]), np.arange(5.0), np.arange(1, 6), units,
        np.ones(5),
    )  # fmt: skip
    random = np.random.default_rng(0)
    batch = customer_rows(lines, np.array(["a"]), np.array(["EIRE"]), catalogue(5), random)
    assert [(row["history"], row["item"]) for row in batch.to_pylist()] == [([3, 2, 1], 5)]


def test_an_item_has_no_history():
    rows = item_rows(catalogue(3), 100.0).to_pylist()
    assert [row["wanted"] for row in rows] == [1, 2, 3]
    assert {row["customer"] for row in rows} == {CATALOGUE}
    assert not any(row["is_customer"] or row["history"] or row["last_words"] for row in rows)


@pytest.fixture(scope="module")
def many():
    return table(ShopBaskets(128_000, seed=7))


def test_histories_are_those_of_the_docstring(many):
    asks = many["is_customer"].to_numpy()
    assert (~asks).sum() == 2 * 2_666
    lengths = pc.list_value_length(many["history"]).to_numpy()[asks]
    assert lengths.min() >= FEWEST
    assert lengths.max() == PAST
    assert lengths.mean() == pytest.approx(17, abs=0.5)
    customers = many.filter(pa.array(asks))
    orders = customers.select(["customer", "time"]).group_by(["customer", "time"])
    assert max(orders.aggregate([([], "count_all")])["count_all"].to_pylist()) <= TARGETS
    items = np.repeat(customers["item"].to_numpy(), lengths)
    repeated = (items == pc.list_flatten(customers["history"]).to_numpy()).sum()
    assert repeated / len(customers) == pytest.approx(0.07, abs=0.01)


def test_an_item_is_often_followed_by_its_variants(many):
    customers = many.filter(many["is_customer"])
    words, last = (
        pc.list_flatten(customers[name]).to_numpy().reshape(-1, 4)[:, :3]
        for name in ("words", "last_words")
    )
    assert (words == last).all(axis=1).mean() == pytest.approx(0.26, abs=0.02)


def test_the_split_leaves_each_item_once_at_the_size_of_the_config(many):
    times = np.sort(many["time"].to_numpy())
    cuts = times[[len(times) * 6 // 10, len(times) * 7 // 10]]
    listed = np.unique(many.filter(pc.invert(many["is_customer"]))["time"].to_numpy())
    assert cuts[0] < listed[0] < cuts[1] < listed[1] == times[-1]
