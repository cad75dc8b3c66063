"""Layer reconstruction: three sums instead of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from qtool.numerics.reconstruction import Grid, Reconstruction


def rows(seed, count=30, inputs=4, outputs=3):
    """What a quantized layer reads, what FP32 reads, and the weights."""
    generator = np.random.default_rng(seed)
    exact = generator.standard_normal((count, inputs))
    read = exact + 0.1 * generator.standard_normal((count, inputs))
    return read, exact, generator.standard_normal((inputs, outputs))


def goal_of(read, exact, weight):
    y, count = exact @ weight, len(read)
    return Reconstruction(weight, read.T @ read / count, read.T @ y / count, (y * y).mean(axis=0))


def test_codes_by_hand():
    grid = Grid(np.array([[0.5], [2.0]]), np.array([3.0]))
    codes = grid.nearest(np.array([[0.8], [-9.0]]))
    assert codes.ravel().tolist() == [2, -3]
    assert grid.of(slice(1, 2)).step.tolist() == [[2.0]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_the_error_is_that_of_the_rows(seed):
    read, exact, weight = rows(seed)
    other = np.random.default_rng(seed + 1).standard_normal(weight.shape)
    expected = ((read @ other - exact @ weight) ** 2).mean(axis=0)
    np.testing.assert_allclose(goal_of(read, exact, weight).error(other), expected, rtol=1e-9)


def test_the_target_is_ridge_regression_around_the_weights():
    read, exact, weight = rows(3)
    goal = goal_of(read, exact, weight)
    strength = 0.2 * np.diag(goal.second).mean() * len(read)
    ridge = Ridge(alpha=strength, fit_intercept=False, solver="cholesky")
    moved = ridge.fit(read, exact @ weight - read @ weight).coef_.T
    np.testing.assert_allclose(goal.target(0.2), weight + moved, rtol=1e-9)


def test_the_target_has_a_smaller_error_than_the_weights():
    goal = goal_of(*rows(4))
    assert (goal.error(goal.target(0.01)) < goal.error(goal.weight)).all()


def test_where_nothing_is_missed_the_target_is_the_weights():
    exact, _, weight = rows(5)
    goal = goal_of(exact, exact, weight)
    np.testing.assert_allclose(goal.target(0.01), weight, rtol=1e-12)
    zeros = Reconstruction(weight, np.zeros((4, 4)), np.zeros((4, 3)), np.zeros(3))
    np.testing.assert_array_equal(zeros.target(0.01), weight)


def test_each_output_keeps_the_better_codes():
    weight = np.array([[0.4, 1.0], [0.4, 1.0]])
    second = np.ones((2, 2))
    power = ((np.ones((1, 2)) @ weight) ** 2).ravel()
    goal = Reconstruction(weight, second, second @ weight, power)
    grid = Grid(np.ones((2, 2)), np.full(2, 7.0))
    chosen = goal.best(grid, grid.nearest(weight), np.array([[0.0, 2.0], [1.0, 1.0]]))
    assert chosen.T.tolist() == [[0, 1], [1, 1]]
    assert goal.error(weight) == pytest.approx([0, 0], abs=1e-12)
