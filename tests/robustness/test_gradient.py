"""FGSM and PGD: the closed form of a linear model, and what no attack may leave."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from robustness.applicants import BOXES, COLUMNS, WEIGHTS, batch_of, inputs_of, region
from torch import nn

from qtool.config.evaluation import Box
from qtool.errors import ConfigError
from qtool.robustness.gradient import Space, moved, white_box
from qtool.training.objective import criterion

BCE = criterion(None, "binary_classification", "logit").loss
WIDE = [Box(columns=["age", "ratio"], range=0.3, low=-500, high=500)]


def linear(inputs):
    return {"logit": inputs["numbers"] @ torch.tensor(WEIGHTS, dtype=torch.float32)}


def mlp(seed=0, bend=3.0):
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 1))
    with torch.no_grad():
        body[0].weight *= bend
    return lambda inputs: {"logit": body(inputs["numbers"])}


def row_losses(forward, inputs, labels):
    with torch.no_grad():
        logits = forward({name: torch.from_numpy(x) for name, x in inputs.items()})["logit"]
    wanted = torch.from_numpy(labels).float()
    return nn.functional.binary_cross_entropy_with_logits(
        logits.reshape(-1), wanted, reduction="none"
    ).numpy()


def attacked(forward, batch, boxes=BOXES, steps=1):
    regions = {"numbers": region(batch, boxes)}
    return white_box(forward, BCE)(batch.inputs, batch.labels, regions, steps), regions["numbers"]


@pytest.mark.parametrize("steps", [1, 7])
def test_fgsm_and_pgd_on_a_linear_model_have_a_closed_form(steps):
    batch = batch_of(200)
    found, where = attacked(linear, batch, WIDE, steps)
    x = batch.inputs["numbers"]
    signs = np.sign(WEIGHTS) * (1 - 2 * batch.labels[:, None].astype(int))
    reach = np.zeros(4)
    reach[where.movable.positions] = where.movable.reach
    expected = np.clip(x + reach * signs, -3, 3)  # the encoder's clip
    np.testing.assert_allclose(found["numbers"], expected, atol=1e-5)
    assert found["numbers"].dtype == np.float32
    np.testing.assert_array_equal(found["codes"], batch.inputs["codes"])


def test_an_attack_ends_at_bounds_and_follows_directions():
    """The weight of income is negative, and it may only rise: defaulters stay as they are."""
    batch = batch_of(300)
    found, where = attacked(linear, batch)
    moves = found["numbers"] - batch.inputs["numbers"]
    inside = where.raw[:, 0] < where.high[:, 0] * (1 - 1e-6)
    assert (moves[batch.labels == 0, 0] == 0).all()
    assert (moves[(batch.labels == 1) & inside, 0] > 0).all()
    raw = where.raw_of(found["numbers"])
    ends = np.where(batch.labels == 0, where.high[:, 1], where.low[:, 1])
    np.testing.assert_array_equal(raw[:, 1], ends)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([0.0, 0.2]))
def test_no_attack_leaves_the_feasible_rows(seed, steps, missing):
    batch = batch_of(30, seed, missing)
    found, where = attacked(mlp(seed), batch, steps=steps)
    raw = np.stack([batch.columns[name].astype(np.float32) for name in COLUMNS], axis=1)
    values = where.raw_of(found["numbers"])
    there = ~np.isnan(where.raw)
    assert (values >= where.low)[there].all()
    assert (values <= where.high)[there].all()
    raw[:, where.movable.positions] = values
    np.testing.assert_array_equal(found["numbers"], inputs_of(raw)["numbers"])


def test_more_steps_find_a_larger_loss():
    batch, forward = batch_of(500), mlp()
    boxes = [Box(columns=["income", "age", "ratio"], range=1.0, low=-500, high=1e6)]
    clean, fgsm, pgd = (
        row_losses(forward, inputs, batch.labels).mean()
        for inputs in (
            batch.inputs,
            attacked(forward, batch, boxes)[0],
            attacked(forward, batch, boxes, steps=20)[0],
        )
    )
    assert clean < fgsm < pgd


def test_small_steps_add_up_to_whole_numbers():
    """20 steps of a quarter of one inquiry each: rounding every step would never move."""
    batch = batch_of(100)
    found, where = attacked(linear, batch, BOXES[1:2], steps=20)
    raw = where.raw_of(found["numbers"])[:, 0]
    ends = np.where(batch.labels == 0, where.high[:, 0], where.low[:, 0])
    np.testing.assert_array_equal(raw, ends)


def test_an_input_without_gradient_is_named():
    space = {"idle": Space.ball(torch.ones(2, 1), 0.1)}
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(ConfigError, match="no gradient with respect to 'idle'"):
        moved({"idle": torch.ones(2, 1)}, None, [lambda inputs, labels: weight.sum()], space, 1)


def test_the_spare_graph_leads_where_the_first_has_no_gradient():
    """The first sees no ages; the weight of the second is positive for ages and negative else."""

    def blind(inputs):
        return {"logit": inputs["numbers"][:, 3] - 0 * inputs["numbers"][:, 1]}

    def spare(inputs):
        return {"logit": inputs["numbers"][:, 1] - inputs["numbers"][:, 3]}

    batch = batch_of(100)
    batch.labels[:] = 0
    where = {"numbers": region(batch, WIDE)}
    found = white_box(blind, BCE, spare)(batch.inputs, batch.labels, where, 1)["numbers"]
    inside = (np.abs(batch.inputs["numbers"]) < 2.5).all(axis=1)
    assert (found > batch.inputs["numbers"])[inside][:, [1, 3]].all()
