from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import block_of, encoder_of, numbers_of

from qtool.data.encoding import Encoder
from qtool.data.nested import Channels, TensorEncoding
from qtool.errors import ConfigError, DataError
from qtool.evaluation.perturb import raw_columns, replaced, scores_of, spread_rows, typical_row

BLOCK = block_of(
    {
        "amount": [5.0, None, 1.0, 3.0, 9.0],
        "months": [2, 0, 0, None, 7],
        "country": ["FR", None, "DE", "DE", "FR"],
        "mostly": pa.array([None, "a", None, None, "b"]).dictionary_encode(),
        "nothing": pa.array([None] * 5, pa.float64()),
        "pair": pa.array([[1.0, 2.0]] * 5, pa.list_(pa.float32(), 2)),
    }
)
ENCODER = encoder_of("amount", "nothing", months=(0, 2, 7), country=("DE", "FR"), mostly=("a", "b"))


def value(column: str, row: int) -> object:
    return BLOCK.columns.column(column)[row].as_py()


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("amount", 3.0),  # the lower median of 1, 3, 5, 9
        ("months", 0),
        ("country", "FR"),  # as often as DE, and seen first
        ("mostly", None),
        ("nothing", None),
    ],
)
def test_typical_values_by_hand(column: str, expected: object) -> None:
    assert value(column, typical_row(BLOCK, ENCODER, column, "here")) == expected


@pytest.mark.parametrize(
    ("column", "points", "expected"),
    [
        ("amount", 9, [1.0, 3.0, 5.0, 9.0]),
        ("amount", 3, [1.0, 3.0, 9.0]),
        ("amount", 2, [1.0, 9.0]),
        ("months", 9, [0, 2, 7]),
    ],
)
def test_spread_values_by_hand(column: str, points: int, expected: list[object]) -> None:
    rows = spread_rows(BLOCK, ENCODER, column, points, "here")
    assert [value(column, row) for row in rows.tolist()] == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=40), st.integers(2, 6))
def test_spread_values_are_quantiles_and_increase(values: list[int], points: int) -> None:
    if len(set(values)) < 2:
        values = [*values, 9]
    rows = spread_rows(block_of({"a": values}), encoder_of("a"), "a", points, "here")
    found = np.array(values)[rows]
    assert (np.diff(found) > 0).all()
    assert (found[0], found[-1]) == (min(values), max(values))
    assert len(found) <= points
    if len(set(values)) > points:
        shares = np.linspace(0, 1, points)
        expected = np.unique(np.quantile(values, shares, method="inverted_cdf"))
        assert found.tolist() == expected.tolist()


def test_replacing_changes_one_column_and_keeps_types() -> None:
    block = block_of({"amount": [7.0, 8.0], "country": ["DE", "DE"], "months": [2, 7]})
    reference = block_of({"amount": [1.5, None], "country": ["FR", "XX"], "months": [7, 0]})
    changed = replaced(replaced(block, "amount", reference, 1), "country", reference, 0)
    assert changed.columns.to_pydict() == {
        "amount": [None, None],
        "country": ["FR", "FR"],
        "months": [2, 7],
    }
    assert changed.columns.schema == block.columns.schema
    arrays = encoder_of("amount", country=("DE", "FR"), months=(2, 7)).encode(changed)
    assert arrays["x"].tolist() == [[0], [0]]
    assert arrays["z"].tolist() == [[2, 1], [2, 2]]


def test_raw_columns_are_named_once() -> None:
    twice = Encoder({**ENCODER.inputs, "again": numbers_of("months", "amount")})
    assert raw_columns(twice) == ("amount", "nothing", "months", "country", "mostly")


LISTS = Encoder(
    {
        "pair": numbers_of("pair", widths=(2,)),
        "image": TensorEncoding(("pixels",), Channels("float32", None), (2,)),
    }
)


@pytest.mark.parametrize("column", ["pair", "pixels"])
def test_a_column_of_lists_is_refused(column: str) -> None:
    with pytest.raises(ConfigError, match=f"here: column '{column}' of lists; expected one number"):
        typical_row(BLOCK, LISTS, column, "here")


def test_a_column_of_no_input_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"column 'age', which no model input .*one of amount, "):
        typical_row(BLOCK, ENCODER, "age", "here")


def test_texts_have_no_order() -> None:
    with pytest.raises(ConfigError, match="column 'country' of texts, which have no order"):
        spread_rows(BLOCK, ENCODER, "country", 3, "here")


@pytest.mark.parametrize("values", [[1.0, 1.0, None], [None, None, None]])
def test_one_value_cannot_be_varied(values: list[float | None]) -> None:
    block = block_of({"a": pa.array(values, pa.float64())})
    with pytest.raises(DataError, match=r"'a': the same value .* Remove here\."):
        spread_rows(block, encoder_of("a"), "a", 3, "here")


def test_several_scores_per_row_are_refused() -> None:
    with pytest.raises(ConfigError, match="a model with 3 outputs per row"):
        scores_of(lambda inputs: (np.zeros((2, 3)), np.zeros((2, 3))), {}, "here")
