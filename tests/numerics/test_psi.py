from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from qtool.numerics.psi import psi, psi_by_chance

COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=3).filter(any)


def test_by_hand() -> None:
    found = psi(np.array([50, 50]), np.array([20, 80]))
    assert found == pytest.approx(-0.3 * math.log(0.4) + 0.3 * math.log(1.6))
    assert psi(np.array([10, 0]), np.array([10, 10])) == pytest.approx(
        (0.5 - 1) * math.log(0.5) + (0.5 - 0.05) * math.log(10)
    )


@given(COUNTS, COUNTS)
def test_zero_for_equal_shares_and_never_negative(a, b) -> None:
    assert psi(np.array(a), np.array(a)) == 0
    assert psi(np.array(a), np.array(b)) >= 0 or min(*a, *b) == 0


@pytest.mark.parametrize("bins", [2, 10, 40])
def test_chance_is_the_quantile_of_chi_square(bins) -> None:
    expected = chi2.ppf(0.99, bins - 1) * (1 / 1000 + 1 / 300)
    assert psi_by_chance(bins, 1000, 300) == pytest.approx(expected, rel=0.02)
    assert psi_by_chance(1, 10, 10) == 0


def test_chance_explains_a_hundredth_of_equal_samples() -> None:
    random = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    limit = psi_by_chance(10, 5000, 400)
    found = [
        psi(random.multinomial(5000, shares), random.multinomial(400, shares)) for _ in range(2000)
    ]
    assert 0.004 < np.mean(np.array(found) > limit) < 0.02
