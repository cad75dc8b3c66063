from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.numerics.affine import QuantSpec, choose_qparams, quantize_columns, weight_qparams
from qtool.numerics.affine import fake_quantize as fake
from qtool.numerics.columns import widen_columns

COLUMNS = QuantSpec("uint8", symmetric=False, axis=1)
WEIGHT = QuantSpec("int8", symmetric=True)


def output_error(x: np.ndarray, weight: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    params = choose_qparams(low, high, COLUMNS)
    codes = quantize_columns(x, params).astype(np.float64) - params.zero_point
    folded = params.scale[:, None] * weight
    error = codes @ fake(folded, weight_qparams(folded, WEIGHT)) - x.astype(np.float64) @ weight
    return float((error**2).mean())


def test_an_amount_beside_flags_is_balanced_better_than_either_extreme():
    generator = np.random.default_rng(1)
    x = np.column_stack(
        [generator.standard_t(3, 4000).clip(-30, 30), *generator.normal(0, 0.2, (7, 4000))]
    ).astype(np.float32)
    weight = generator.normal(0, 1, (8, 64)).astype(np.float32)
    low, high = x.min(axis=0), x.max(axis=0)
    wide = widen_columns(
        low, high, (x.astype(float) ** 2).mean(axis=0), weight, levels=255, weight_qmax=127
    )
    one_range = (np.full(8, low.min()), np.full(8, high.max()))
    balanced, tight, shared = (
        output_error(x, weight, *ranges) for ranges in (wide, (low, high), one_range)
    )
    assert balanced < 0.75 * tight
    assert balanced < 0.5 * shared


@given(
    hnp.arrays(np.float32, 4, elements=st.floats(0, 100, width=32)),
    hnp.arrays(np.float32, (4, 3), elements=st.floats(-10, 10, width=32)),
)
def test_ranges_only_grow(high, weight):
    low = -high / 2
    wide_low, wide_high = widen_columns(
        low, high, (high.astype(np.float64)) ** 2 / 4, weight, levels=255, weight_qmax=127
    )
    assert (wide_low <= low).all()
    assert (wide_high >= high).all()
    assert np.isfinite(wide_high).all()
