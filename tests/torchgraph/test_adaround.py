"""AdaRound: up or down, by gradient descent on the quadratic form of the outputs' error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qtool.numerics.reconstruction import Grid, Reconstruction
from qtool.torchgraph import adaround
from qtool.torchgraph.adaround import adaround_codes


def problem(seed, inputs=24, outputs=6, rank=24, qmax=7.0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((200, rank)) @ generator.standard_normal((rank, inputs))
    weight = generator.standard_normal((inputs, outputs))
    step = np.broadcast_to(np.abs(weight).max(axis=0) / qmax, weight.shape)
    return weight, x.T @ x / len(x), Grid(step, np.full(outputs, qmax))


def error(codes, weight, second, grid):
    goal = Reconstruction(
        weight, second, second @ weight, np.einsum("kn,kn->n", weight, second @ weight)
    )
    return goal.error(codes * grid.step).sum()


def test_two_equal_inputs_by_hand():
    """0.45 + 0.4 is 0.85: one of the two has to go up, the one that is nearer to it."""
    grid = Grid(np.ones((2, 1)), np.array([7.0]))
    codes = adaround_codes(np.array([[0.45], [0.4]]), np.ones((2, 2)), grid, 300)
    assert codes.ravel().tolist() == [1, 0]


@pytest.mark.parametrize(("rank", "gain"), [(24, 1.5), (5, 5)])
def test_beats_rounding_to_nearest(rank, gain):
    weight, second, grid = problem(0, rank=rank)
    codes = adaround_codes(weight, second, grid, 500)
    assert error(grid.nearest(weight), weight, second, grid) > gain * error(
        codes, weight, second, grid
    )


def test_takes_one_of_the_two_codes_around_each_weight():
    weight, second, grid = problem(1, qmax=3.0)
    weight[0] *= 4  # beyond the last code
    codes = adaround_codes(weight, second, grid, 100)
    down = grid.within(np.floor(weight / grid.step))
    assert (np.abs(codes) <= 3).all()
    assert ((codes == down) | (codes == grid.within(down + 1))).all()


def test_independent_inputs_are_rounded_to_nearest():
    weight, _, grid = problem(2)
    codes = adaround_codes(weight, np.eye(len(weight)), grid, 500)
    np.testing.assert_array_equal(codes, grid.nearest(weight))


def test_equal_inputs_give_equal_codes_whatever_torch_would_draw():
    given = problem(3)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(adaround_codes(*given, 50))
    np.testing.assert_array_equal(*found)


def test_an_output_without_error_has_no_gradient():
    weight, second, grid = problem(4)
    weight = grid.nearest(weight) * grid.step
    np.testing.assert_array_equal(adaround_codes(weight, second, grid, 50), grid.nearest(weight))


@pytest.mark.parametrize("beta", [None, 2.0, 7.5])
def test_the_gradient_is_that_of_the_loss(beta):
    weight, second, grid = problem(5)
    rounding = adaround._Rounding(weight, second, grid)
    rounding.set_gradient(beta)
    logits = rounding.logits.clone().requires_grad_()
    up = (torch.sigmoid(logits) * 1.2 - 0.1).clamp(0, 1)
    difference = (rounding.down + rounding.free * up) * rounding.step - rounding.weight
    loss = ((difference * (rounding.second @ difference)).sum(0) * rounding.share).sum()
    if beta is not None:
        undecided = 1 - (2 * up - 1).abs().pow(beta)
        loss = loss + adaround.REGULARIZER * (rounding.free * undecided).sum()
    loss.backward()
    scale = float(logits.grad.abs().max())
    torch.testing.assert_close(rounding.logits.grad, logits.grad, rtol=1e-3, atol=1e-4 * scale)
