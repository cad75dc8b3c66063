from __future__ import annotations

import numpy as np
import pytest

from qtool.data.generators.shop_orders import (
    CHUNK_CUSTOMERS,
    DAYS,
    GROUPS,
    PRODUCTS,
    START,
    Lines,
    make_lines,
    make_products,
)


@pytest.fixture(scope="module")
def products():
    return make_products(7)


@pytest.fixture(scope="module")
def lines(products):
    return make_lines(7, 0, products)[1]


@pytest.fixture(scope="module")
def sold(lines):
    return lines.take(lines.units > 0)


def test_a_chunk_has_a_stream_of_its_own(products, lines):
    customers, again = make_lines(7, 0, products)
    assert len(customers.segment) == CHUNK_CUSTOMERS
    for name, values in vars(lines).items():
        np.testing.assert_array_equal(values, vars(again)[name])
    other = make_lines(7, 1, products)[1]
    assert not np.array_equal(other.product[:100], lines.product[:100])


def test_lines_are_by_customer_and_time_and_orders_are_in_one_piece(lines):
    assert (np.diff(lines.customer) >= 0).all()
    same = np.diff(lines.customer) == 0
    assert (np.diff(lines.day)[same] >= 0).all()
    assert set(np.diff(lines.order)) == {0, 1}
    assert lines.day.min() >= 0
    assert lines.day.max() < DAYS


def test_no_product_is_twice_in_an_order(sold):
    pairs = sold.order * (PRODUCTS + 1) + sold.product
    assert len(np.unique(pairs)) == len(pairs)


def test_nothing_is_ordered_on_saturdays(sold):
    days = START.astype("datetime64[D]") + np.floor(sold.day).astype(int)
    weekday = (days.astype(int) + 3) % 7  # 1970-01-01 is a Thursday
    assert 5 not in weekday
    assert {0, 1, 2, 3, 4, 6} == set(weekday)


def test_a_credit_note_is_of_what_was_ordered(lines, sold):
    back = lines.take(lines.units < 0)
    bought = set(zip(sold.customer, sold.product, strict=True))
    assert set(zip(back.customer, back.product, strict=True)) <= bought
    assert len(np.unique(back.order)) / len(np.unique(sold.order)) == pytest.approx(0.17, abs=0.03)
    assert len(back.order) / len(lines.order) == pytest.approx(0.027, abs=0.008)


def test_products_are_numbered_by_how_often_they_are_sold(products, sold):
    assert (np.diff(products.share) < 0).all()
    assert products.share.sum() == pytest.approx(1)
    assert products.share[:100].sum() == pytest.approx(0.23, abs=0.01)
    assert products.share[:1000].sum() == pytest.approx(0.81, abs=0.01)
    counts = np.bincount(sold.product, minlength=PRODUCTS + 1)[1:]
    assert counts[:500].sum() > 3 * counts[-500:].sum()


def test_variants_share_group_and_words(products):
    assert products.group.max() == len(GROUPS) - 1
    for family in range(20):
        of = products.family == family
        assert len(np.unique(products.group[of])) == 1
        assert len(np.unique(products.words[of, :3], axis=0)) == 1
        assert len(np.unique(products.words[of, 3])) > 1


def test_orders_are_as_the_docstring_says(sold):
    orders, sizes = np.unique(sold.order, return_counts=True)
    _, of_customer = np.unique(sold.order, return_index=True)
    per_customer = np.bincount(sold.customer[of_customer], minlength=CHUNK_CUSTOMERS)
    assert per_customer.mean() == pytest.approx(3.7, abs=0.4)
    assert np.median(per_customer) == 2
    assert (per_customer == 1).mean() == pytest.approx(0.39, abs=0.04)
    assert np.median(sizes) == pytest.approx(14, abs=2)
    assert np.quantile(sizes, 0.9) == pytest.approx(43, abs=5)
    assert np.median(sold.units) == pytest.approx(5, abs=1)
    assert np.quantile(sold.units, 0.99) == pytest.approx(136, rel=0.3)
    spend = np.bincount(sold.customer, sold.units * sold.price, CHUNK_CUSTOMERS)
    assert np.median(spend) == pytest.approx(480, rel=0.2)
    assert spend.mean() > 3 * np.median(spend)
    assert len(orders) > CHUNK_CUSTOMERS


def test_take_selects_lines():
    one = np.arange(3)
    lines = Lines(one, one, one / 2, one, one, one / 4)
    taken = lines.take(one != 1)
    assert taken.day.tolist() == [0, 1]
    assert taken.product.tolist() == [0, 2]
