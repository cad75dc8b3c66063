"""Weight scales of the least error of the outputs: never worse than the scales they start from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.numerics.output_scales import ScaledMatrix, scale_factors
from qtool.numerics.reconstruction import Grid, Reconstruction


def goal_of(x, weight):
    second, y = x.T @ x / len(x), x @ weight
    return Reconstruction(weight, second, second @ weight, (y * y).mean(axis=0))


def owners_of(shape, kind, block=4):
    """The index of each weight's scale: one, one per output, or one per block and output."""
    rows, columns = np.indices(shape)
    blocks = rows // block * shape[1] + columns
    return {"tensor": rows * 0, "channel": columns, "block": blocks}[kind]


def test_an_outlier_that_is_seldom_read_is_cut_off_by_hand():
    """Codes -1..1: the weight 4 asks for steps of 4, which leave nothing of the weights 1."""
    weight = np.array([[4.0], [1.0], [1.0]])
    x = np.diag([0.1, 1.0, 1.0])  # what moves the output is read by the others
    grid = Grid(np.full((3, 1), 4.0), np.array([1.0]))
    matrix = ScaledMatrix(goal_of(x, weight), grid, np.zeros((3, 1), np.intp))
    (factor,) = scale_factors([matrix], np.zeros(1), None)
    # Of the shares from 1 to 0.2 in steps of 0.025, 0.25 makes the step 1 and both weights exact.
    assert 4.0 * factor == pytest.approx(1.0)
    (bounded,) = scale_factors(
        [ScaledMatrix(matrix.goal, grid, matrix.owners)], np.array([0.4]), None
    )
    assert bounded == pytest.approx(0.4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from(["tensor", "channel", "block"]), st.integers(1, 10))
def test_is_never_worse_than_the_scales_it_starts_from(seed, kind, rank):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((50, rank)) @ generator.standard_normal((rank, 10))
    weights = [generator.standard_t(3, (10, 3)) for _ in range(2 if kind == "tensor" else 1)]
    owners = owners_of((10, 3), kind)
    step = np.full((10, 3), max(np.abs(weight).max() for weight in weights) / 7)
    grid = Grid(step, np.full(3, 7.0))
    matrices = [ScaledMatrix(goal_of(x, weight), grid, owners) for weight in weights]
    factors = scale_factors(matrices, np.zeros(owners.max() + 1), 4 if kind == "block" else None)
    found = Grid(step * factors[owners], grid.qmax)
    errors = [
        sum(goal_of(x, w).error(each.nearest(w) * each.step).sum() for w in weights)
        for each in (grid, found)
    ]
    assert errors[1] <= errors[0] * (1 + 1e-9)
    for matrix in matrices:  # what the search believes of the weights is so
        np.testing.assert_allclose(
            matrix.values, found.nearest(matrix.goal.weight) * found.step, atol=1e-12
        )


def test_beats_the_least_error_of_the_weights_where_inputs_differ():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((500, 32)) * np.geomspace(0.01, 3, 32)
    weight = generator.standard_normal((32, 8)) * np.geomspace(4, 0.2, 32)[:, None]
    grid = Grid(np.broadcast_to(np.abs(weight).max(axis=0) / 7, weight.shape), np.full(8, 7.0))
    owners = owners_of(weight.shape, "channel")
    goal, plain = goal_of(x, weight), Reconstruction(weight, np.eye(32), weight, (weight**2).sum(0))
    errors = []
    for each in (plain, goal):
        factors = scale_factors([ScaledMatrix(each, grid, owners)], np.zeros(8), None)
        found = Grid(grid.step * factors, grid.qmax)
        errors.append(goal.error(found.nearest(weight) * found.step).sum())
    assert errors[0] > 1.5 * errors[1]


def test_a_channel_of_zeros_keeps_its_scale():
    weight = np.zeros((3, 2))
    weight[:, 0] = [1, 2, 3]
    grid = Grid(np.ones((3, 2)), np.full(2, 7.0))
    matrix = ScaledMatrix(goal_of(np.eye(3), weight), grid, owners_of((3, 2), "channel"))
    assert scale_factors([matrix], np.zeros(2), None)[1] == 1
