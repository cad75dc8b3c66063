from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.data.generators.document_words import (
    ENDS,
    SHAPES,
    WORDS,
    Line,
    boxes,
    numbers,
    shape,
    tags,
    words,
)


def test_reading_order_and_boxes_by_hand():
    lines = [
        Line("9.00", 80, 21, 100, 31),
        Line("BIG SHOP", 20, 0, 60, 10),
        Line("TOTAL:", 0, 20, 24, 30),
    ]
    found = words(lines)
    assert [(word.text, word.row, word.line, word.at) for word in found] == [
        ("BIG", 0, 1, 0), ("SHOP", 0, 1, 4), ("TOTAL", 1, 2, 0), ("9.00", 1, 0, 0)
    ]  # fmt: skip
    shop = found[1]
    assert (shop.left, shop.right) == pytest.approx((0.4, 0.6))  # from the fifth of 8 characters on
    assert (shop.top, shop.bottom) == pytest.approx((0, 10 / 31))
    assert boxes(found)[3] == pytest.approx((0.6, 2 * 21 / 31 - 1, 1, 1, 0.1, 0))


@pytest.mark.parametrize(
    ("word", "expected"),
    [("25/12/2018", "00/00/0000"), ("1,234.50", "0,000.00"), ("JALAN", "XXXX"), ("Sdn", "Xxx")],
)
def test_shapes(word, expected):
    assert shape(word) == expected


def test_case_and_digits_count_in_some_numbers_only():
    assert numbers("Total")[:3] == numbers("TOTAL")[:3]
    assert numbers("Total")[3] != numbers("TOTAL")[3]
    assert numbers("12.50")[1:] == numbers("98.70")[1:]
    assert numbers("12.50")[0] != numbers("98.70")[0]


boxed = st.builds(
    lambda text, x, y, width, height: Line(text, x, y, x + width, y + height),
    st.text(st.characters(codec="ascii"), min_size=1, max_size=12),
    st.floats(0, 500),
    st.floats(0, 900),
    st.floats(1, 300),
    st.floats(1, 40),
)


@given(st.lists(boxed, min_size=1, max_size=12))
def test_numbers_and_boxes_are_in_range(lines):
    found = words(lines)
    for word, box in zip(found, boxes(found), strict=True):
        assert all(-1 <= side <= 1 + 1e-9 for side in box)
        assert all(
            0 < number < count
            for number, count in zip(numbers(word.text), (WORDS, ENDS, ENDS, SHAPES), strict=True)
        )
    rows = [word.row for word in found]
    assert rows == sorted(rows)


def test_tags_of_fields():
    assert tags(5, [(4, 4, 5), (1, 0, 2)]) == [1, 1, 0, 0, 4]
