from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from qtool.config.data import GeneratorSource
from qtool.data.generators.shop_customers import (
    AHEAD,
    FEWEST_ORDERS,
    PROFILE,
    SCHEMA,
    SNAPSHOTS,
    USUAL_SPEND,
    ShopCustomers,
    profile_rows,
    profiles,
    rfm_segments,
)
from qtool.data.generators.shop_orders import DAYS, GROUPS, SEGMENTS, Lines
from qtool.data.source import open_source


def table(source: ShopCustomers, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    return table(ShopCustomers(3_000, seed=7))


def test_a_config_opens_it():
    section = GeneratorSource(generator="shop_customers", rows=10, seed=3)
    source = open_source(section)
    assert source == ShopCustomers(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(300, 2_000), count=st.integers(1, 3_000))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(rows, batch_rows, count):
    batches = list(ShopCustomers(count, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(rows.slice(0, count))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [ShopCustomers(10, 7), ShopCustomers(11, 7), ShopCustomers(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


ORDERS = Lines(
    customer=np.array([0, 0, 0, 0, 0, 1]),
    # Numbered across customers, as invoices are: the one of customer 1 is in the middle.
    order=np.array([3, 3, 8, 9, 12, 5]),
    day=np.array([10.4, 10.4, 20.6, 25.5, 40.4, 11.0]),
    product=np.array([1, 2, 1, 1, 3, 1]),
    units=np.array([2, 30, 4, -1, 5, 1]),
    price=np.array([1.0, 4.0, 1.0, 1.0, 2.0, 1.0]),
)


def test_a_profile_by_hand():
    group = np.array([0, 1, 0, 0, 2, 0])
    found = dict(
        zip(PROFILE, profiles(ORDERS, group, np.array([True, False]), 50.0).T, strict=True)
    )
    first = {name: values[0] for name, values in found.items()}
    # Orders of 2 + 120, 4 and 10 pounds; a credit note of 1 pound.
    assert (first["orders"], first["spend"], first["credit_notes"]) == (3, 136, 1)
    assert first["recency_days"] == pytest.approx(9.6)
    assert first["tenure_days"] == pytest.approx(39.6)
    assert first["returned_share"] == pytest.approx(1 / 136)
    assert first["mean_order"] == pytest.approx(136 / 3)
    assert first["largest_order"] == 122
    assert first["order_variation"] == pytest.approx(np.std([122, 4, 10]) / (136 / 3))
    assert first["mean_gap_days"] == pytest.approx(15.0)
    assert first["gap_variation"] == pytest.approx(np.std([10.2, 19.8]) / 15)
    assert first["mean_lines"] == pytest.approx(4 / 3)
    assert (first["products"], first["repeat_share"], first["units"]) == (3, 0.25, 41)
    assert first["units_per_line"] == pytest.approx((2 * 30 * 4 * 5) ** 0.25)
    assert first["bulk_share"] == 0.25
    assert first["mean_price"] == pytest.approx((4 * 2) ** 0.25)
    assert first["price_spread"] == pytest.approx(np.std(np.log([1, 4, 1, 2])))
    assert first["abroad"] == 1
    # Of all 137 pounds, 7 are of group 0, to which customer 0 gave 6.
    expected = (6 + USUAL_SPEND * 7 / 137) / (136 + USUAL_SPEND)
    assert first[f"share_{GROUPS[0]}"] == pytest.approx(expected)
    second = {name: values[1] for name, values in found.items()}
    assert second["orders"] == 1
    assert np.isnan(second["mean_gap_days"])
    assert np.isnan(second["order_variation"])
    assert second["price_spread"] == 0


def test_shares_add_up_to_one(rows):
    groups = np.stack([rows[f"share_{group}"].to_numpy() for group in GROUPS])
    np.testing.assert_allclose(groups.sum(axis=0), 1, rtol=1e-5)
    parts = np.stack([rows[name].to_numpy() for name in PROFILE[-4:]])
    np.testing.assert_allclose(parts.sum(axis=0), 1, rtol=1e-5)


def test_what_comes_after_the_snapshot_is_in_no_profile():
    later = Lines(*(np.concatenate([x, x]) for x in vars(ORDERS).values()))
    shift = np.repeat([0.0, SNAPSHOTS[0]], len(ORDERS.order))
    later = Lines(
        later.customer, later.order + 20 * (shift > 0), later.day + shift, later.product,
        later.units, later.price,
    )  # fmt: skip
    later = later.take(np.lexsort((later.day, later.customer)))
    group, abroad = np.zeros(len(later.day), int), np.zeros(2, bool)
    names = np.array(["a", "b"])
    found = profile_rows(later, group, abroad, names, None).to_pylist()[0]
    alone = profile_rows(ORDERS, group[:6], abroad, names, None).to_pylist()[0]
    assert found["customer"] == "a"
    assert [found[name] for name in PROFILE] == [alone[name] for name in PROFILE]
    assert (found["spend_next_90d"], alone["spend_next_90d"]) == (136, 0)


def test_segments_by_recency_and_frequency():
    values = np.zeros((10, len(PROFILE)))
    values[:, PROFILE.index("recency_days")] = np.arange(10) * 10
    values[:, PROFILE.index("orders")] = [9, 3, 9, 3, 3, 9, 3, 9, 3, 3]
    values[:, PROFILE.index("tenure_days")] = [200, 30, 200, 200, 200, 200, 200, 200, 200, 200]
    found = rfm_segments(values).tolist()
    assert found[:4] == ["champions", "new", "champions", "promising"]
    assert found[5] == "at risk"
    assert found[8:] == ["hibernating", "hibernating"]


def test_statistics_are_those_of_the_docstring(rows):
    values = {name: rows[name].to_numpy() for name in PROFILE}
    assert values["orders"].min() >= FEWEST_ORDERS
    assert SNAPSHOTS[-1] + AHEAD == DAYS
    assert len(np.unique(rows["customer"].to_numpy(zero_copy_only=False))) > 300
    assert values["orders"].mean() == pytest.approx(5.2, abs=0.8)
    assert np.median(values["recency_days"]) == pytest.approx(32, abs=6)
    assert np.median(values["mean_gap_days"]) == pytest.approx(30, abs=6)
    assert np.median(values["spend"]) == pytest.approx(1400, rel=0.25)
    assert (rows["spend_next_90d"].to_numpy() == 0).mean() == pytest.approx(0.35, abs=0.1)
    assert set(rows["segment"].to_pylist()) == set(SEGMENTS)


def test_k_means_finds_segments_in_part(rows):
    profile = np.nan_to_num(np.stack([rows[name].to_numpy() for name in PROFILE], axis=1))
    logs = np.log1p(np.maximum(profile, 0))
    scaled = (logs - logs.mean(axis=0)) / logs.std(axis=0)
    clusters = KMeans(len(SEGMENTS), random_state=0).fit_predict(scaled)
    segment = rows["segment"].to_pylist()
    assert 0.2 < adjusted_rand_score(segment, clusters) < 0.7
    rfm = scaled[:, [PROFILE.index(name) for name in ("recency_days", "orders", "spend")]]
    alone = KMeans(len(SEGMENTS), random_state=0).fit_predict(rfm)
    assert adjusted_rand_score(segment, alone) < 0.2
