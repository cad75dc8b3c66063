from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.numerics.equalization import equalizing_factors, lost_precision

RANGES = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4).map(np.array)


def lost(first, second):
    return lost_precision(first / first.max(), second / second.max())


def test_factors_by_hand():
    # r1 = 8, 1 and r2 = 2, 4: sqrt(8 * 2) / 2 = 2 and sqrt(4) / 4 = 1/2; both ranges 4 and 2
    first, second = np.array([8.0, 1]), np.array([2.0, 4])
    factors = equalizing_factors(first, second)
    np.testing.assert_allclose(factors, [2, 0.5])
    np.testing.assert_allclose(first / factors, second * factors)
    assert lost(first, second) == 1 - (1 * 0.5 + 0.125 * 1) / 2
    assert lost(first / factors, second * factors) == 1 - (1 + 0.25) / 2


def test_empty_channels_are_left_alone_and_do_not_count():
    first, second = np.array([0.0, 3, 2]), np.array([5.0, 0, 2])
    np.testing.assert_array_equal(equalizing_factors(first, second), [1, 1, 1])
    assert lost(first, second) == 1 - (2 / 3) * (2 / 5)
    assert lost_precision(np.zeros(2), np.ones(2)) == 0


@settings(max_examples=50, deadline=None)
@given(RANGES, RANGES, RANGES)
def test_no_other_factors_lose_less(first, second, other):
    factors = equalizing_factors(first, second)
    best = lost(first / factors, second * factors)
    assert best <= lost(first / other, second * other) + 1e-9
