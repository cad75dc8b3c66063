"""GPTQ: the OBQ update in a Cholesky form, on Hessians of any rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.numerics import gptq
from qtool.numerics.gptq import gptq_codes
from qtool.numerics.reconstruction import Grid, Reconstruction, damped

DAMPING = 0.01


def problem(seed, inputs=12, outputs=5, rows=40, rank=12, qmax=7.0, block=None):
    """Correlated inputs, weights and one step per output, or per block of inputs and output."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, rank)) @ generator.standard_normal((rank, inputs))
    weight = generator.standard_normal((inputs, outputs))
    step = np.empty_like(weight)
    for start in range(0, inputs, block or inputs):
        part = weight[start : start + (block or inputs)]
        step[start : start + len(part)] = np.abs(part).max(axis=0) / qmax
    return x, weight, x.T @ x / rows, Grid(step, np.full(outputs, qmax))


def obq(weight, second, grid, order):
    """Equations 2 and 3 of the paper: one weight of every row at a time, H⁻¹ eliminated."""
    inverse, left = np.linalg.inv(damped(second, DAMPING)), weight.copy()
    codes = np.empty_like(weight)
    for k in order:
        codes[k] = grid.within(np.rint(left[k] / grid.step[k]))
        error = (left[k] - codes[k] * grid.step[k]) / inverse[k, k]
        left -= np.outer(inverse[:, k], error)
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    return codes


def test_two_equal_inputs_by_hand():
    """0.4 + 0.4 is 0.8: rounding both down misses it by 0.8, one up and one down by 0.2."""
    grid = Grid(np.ones((2, 1)), np.array([7.0]))
    weight, second = np.full((2, 1), 0.4), np.ones((2, 2))
    assert grid.nearest(weight).ravel().tolist() == [0, 0]
    # The first becomes 0; the second 0.4 + 0.4 / 1.01 = 0.796, hence 1.
    assert gptq_codes(weight, second, grid, DAMPING).ravel().tolist() == [0, 1]
    goal = Reconstruction(weight, second, second @ weight, np.array([0.64]))
    assert goal.error(np.zeros((2, 1))) == pytest.approx(0.64)
    assert goal.error(np.array([[0.0], [1.0]])) == pytest.approx(0.04)


@pytest.mark.parametrize("block", [None, 4, 5])
@pytest.mark.parametrize("rank", [12, 3])
def test_is_obq_in_the_same_order(block, rank):
    _, weight, second, grid = problem(1, rank=rank, block=block)
    order = np.argsort(-np.diag(second), kind="stable")
    np.testing.assert_array_equal(
        gptq_codes(weight, second, grid, DAMPING), obq(weight, second, grid, order)
    )


def test_gathering_corrections_changes_nothing(monkeypatch):
    _, weight, second, grid = problem(2, inputs=23)
    expected = gptq_codes(weight, second, grid, DAMPING)
    monkeypatch.setattr(gptq, "BLOCK", 5)
    np.testing.assert_array_equal(gptq_codes(weight, second, grid, DAMPING), expected)


def test_independent_inputs_are_rounded_to_nearest():
    _, weight, _, grid = problem(3)
    found = gptq_codes(weight, np.diag(np.linspace(0.1, 4, 12)), grid, DAMPING)
    np.testing.assert_array_equal(found, grid.nearest(weight))


def test_inputs_that_are_always_zero_are_rounded_to_nearest_and_change_nothing():
    x, weight, _, grid = problem(4)
    dead = [2, 7]
    x[:, dead] = 0
    live = np.setdiff1d(np.arange(12), dead)
    second = x.T @ x / len(x)
    found = gptq_codes(weight, second, grid, DAMPING)
    np.testing.assert_array_equal(found[dead], grid.nearest(weight)[dead])
    # Damping is a share of the mean over all inputs, dead ones too.
    alone = gptq_codes(
        weight[live], second[np.ix_(live, live)], grid.of(live), DAMPING * len(live) / 12
    )
    np.testing.assert_array_equal(found[live], alone)


def test_a_layer_that_reads_only_zeros_is_rounded_to_nearest():
    _, weight, second, grid = problem(5)
    found = gptq_codes(weight, np.zeros_like(second), grid, DAMPING)
    np.testing.assert_array_equal(found, grid.nearest(weight))


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([1.0, 7.0, 63.0, 127.0]),
    st.sampled_from([None, 4]),
)  # fmt: skip
def test_what_is_kept_is_never_worse_than_nearest(seed, rank, qmax, block):
    x, weight, second, grid = problem(seed, rank=rank, qmax=qmax, block=block)
    aim, power = x.T @ (x @ weight) / len(x), ((x @ weight) ** 2).mean(axis=0)
    goal = Reconstruction(weight, second, aim, power)
    nearest, codes = grid.nearest(weight), gptq_codes(weight, second, grid, DAMPING)
    assert (np.abs(codes) <= qmax).all()
    np.testing.assert_array_equal(codes, np.rint(codes))
    kept = goal.best(grid, nearest, codes)
    assert (goal.error(kept * grid.step) <= goal.error(nearest * grid.step)).all()


@pytest.mark.parametrize(("rank", "gain"), [(64, 1.5), (8, 20)])
def test_corrects_the_more_the_fewer_directions_the_inputs_have(rank, gain):
    x, weight, second, grid = problem(6, inputs=64, outputs=16, rows=400, rank=rank)
    codes = gptq_codes(weight, second, grid, DAMPING)
    errors = [
        (((x @ (each * grid.step - weight)) ** 2).mean()) for each in (grid.nearest(weight), codes)
    ]
    assert errors[0] > gain * errors[1]
