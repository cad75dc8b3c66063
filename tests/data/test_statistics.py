from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.data.statistics import NumericStatistics, merge, observe, signed_log, with_filled

NO_LOG = np.array([False])


def test_signed_log_by_hand() -> None:
    x = np.array([[-1.0, -1.0], [0.0, 5.0], [np.e - 1, np.nan]], np.float32)
    result = signed_log(x, np.array([True, False]))
    assert result.dtype == np.float32
    expected = np.array([[-np.log(2), -1], [0, 5], [1, np.nan]])
    np.testing.assert_allclose(result, expected, rtol=1e-7)


def test_statistics_by_hand() -> None:
    statistics = observe(np.array([[1], [np.nan], [2], [6]], np.float32), NO_LOG)
    values = {field.name: getattr(statistics, field.name).item() for field in fields(statistics)}
    assert values == {
        "count": 3,
        "missing": 1,
        "raw_mean": 3.0,
        "mean": 3.0,
        "squares": 14.0,
        "low": 1.0,
        "high": 6.0,
    }


def assert_close(a: NumericStatistics, b: NumericStatistics) -> None:
    for field in fields(NumericStatistics):
        left, right = getattr(a, field.name), getattr(b, field.name)
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-6)


columns = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 20), st.just(1)),
    elements=st.one_of(st.just(np.nan), st.floats(-1000, 1000, width=32)),
)


@given(columns, columns, st.booleans())
def test_merging_is_observing_all(a: np.ndarray, b: np.ndarray, log: bool) -> None:
    where = np.array([log])
    merged = merge(observe(a, where), observe(b, where))
    assert_close(merged, observe(np.concatenate([a, b]), where))


@given(columns.filter(lambda x: len(x) > 0), st.floats(-10, 10, width=32))
def test_filling_is_observing_filled_values(x: np.ndarray, value: float) -> None:
    fill = np.array([value], np.float32)
    filled = with_filled(observe(x, NO_LOG), fill)
    direct = observe(np.where(np.isnan(x), fill, x), NO_LOG)
    for name in ("count", "mean", "squares", "low", "high"):
        left, right = getattr(filled, name), getattr(direct, name)
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-6)


def test_variance_of_large_values_keeps_its_digits() -> None:
    # The textbook sum of squares loses all digits here: 1e7**2 * 1e4 rows against a variance of 1.
    x = (1e7 + np.random.default_rng(0).integers(-1, 2, (10_000, 1))).astype(np.float32)
    blocks = [observe(part, NO_LOG) for part in np.split(x, 40)]
    total = blocks[0]
    for block in blocks[1:]:
        total = merge(total, block)
    assert total.squares[0] / 10_000 == pytest.approx(x.astype(np.float64).var(), rel=1e-9)
