from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.numerics.affine import QuantSpec, choose_qparams, quantize_columns, weight_qparams
from qtool.numerics.affine import fake_quantize as fake
from qtool.numerics.columns import Columns, column_gain_db, widen_columns

COLUMNS = QuantSpec("uint8", symmetric=False, axis=1)
WEIGHT = QuantSpec("int8", symmetric=True)


def output_error(x: np.ndarray, weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    params = choose_qparams(low, high, COLUMNS)
    codes = quantize_columns(x, params).astype(np.float64) - params.zero_point
    folded = params.scale[:, None] * weight
    error = codes @ fake(folded, weight_qparams(folded, WEIGHT)) - x.astype(np.float64) @ weight
    return float((error**2).mean())


def columns(x: np.ndarray, weight: np.ndarray) -> Columns:
    mean_square = (x.astype(np.float64) ** 2).mean(axis=0)
    low, high = np.minimum(x.min(axis=0), 0), np.maximum(x.max(axis=0), 0)
    return Columns(low, high, mean_square, weight, levels=255, weight_qmax=127)


def amount_beside_flags():
    generator = np.random.default_rng(1)
    x = np.column_stack(
        [generator.standard_t(3, 4000).clip(-30, 30), *generator.normal(0, 0.2, (7, 4000))]
    ).astype(np.float32)
    return x, generator.normal(0, 1, (8, 64)).astype(np.float32)


def test_an_amount_beside_flags_is_balanced_better_than_either_extreme():
    x, weight = amount_beside_flags()
    known = columns(x, weight)
    one_range = (np.full(8, known.low.min()), np.full(8, known.high.max()))
    balanced, tight, shared = (
        output_error(x, weight, *ranges)
        for ranges in (widen_columns(known), (known.low, known.high), one_range)
    )
    assert balanced < 0.75 * tight
    assert balanced < 0.5 * shared


def test_the_gain_is_large_beside_an_amount_and_none_for_equal_columns():
    x, weight = amount_beside_flags()
    assert column_gain_db(columns(x, weight)) > 6
    equal = np.random.default_rng(0).normal(0, 1, (4000, 8)).astype(np.float32)
    assert column_gain_db(columns(equal, weight)) < 2


def test_the_error_model_on_paper():
    # One column, one output: x = 2 with step 0.5 and W = 3, so the folded weight is 1.5 = 127 d.
    known = Columns(
        *(np.array([v], np.float32) for v in (0, 2)),
        np.array([4.0]),
        np.array([[3.0]], np.float32),
        4,
        127,
    )
    expected = (0.5**2 * 3**2 + (1.5 / 127) ** 2 * 4 / 0.5**2) / 12
    assert known.error(np.array([0.5])) == pytest.approx(expected)


@given(
    hnp.arrays(np.float32, 4, elements=st.floats(0, 100, width=32)),
    hnp.arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=32)),
)
def test_ranges_only_grow(high, weight):
    known = Columns(-high / 2, high, high.astype(np.float64) ** 2 / 4, weight, 255, 127)
    low, wide = widen_columns(known)
    assert (low <= known.low).all()
    assert (wide >= high).all()
    assert np.isfinite(wide).all()
