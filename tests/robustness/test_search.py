"""Attacks that see scores only."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from robustness.applicants import BOXES, batch_of, region, scores

from qtool.errors import ConfigError
from qtool.robustness.search import losses, search


def found_by(predict, batch, queries, seed=0, task="binary_classification"):
    regions = {"numbers": region(batch)}
    random = np.random.default_rng(seed)
    labels = batch.labels
    return search(predict, task, batch.inputs, labels, regions, queries, random), regions["numbers"]


def test_one_sweep_finds_every_flip_of_a_linear_model():
    """Its worst rows are corners; of three columns there are eight, all tried here."""
    batch = batch_of(300)
    found, where = found_by(scores, batch, queries=2 * len(BOXES))
    worst = np.zeros(300)
    for ends in product([0, 1], repeat=len(BOXES)):
        corner = batch.inputs["numbers"].copy()
        for end, place in zip(ends, where.movable.positions, strict=True):
            corner[:, place] = where.bounds[end][:, place]
        settled = {"numbers": where.settle(corner)}
        worst = np.maximum(worst, losses("binary_classification", batch.labels, scores(settled)))
    np.testing.assert_allclose(
        losses("binary_classification", batch.labels, scores(found)), worst, rtol=1e-6
    )
    turned = (scores(found) >= 0.5) != (scores(batch.inputs) >= 0.5)
    assert turned.sum() > 10


def test_the_loss_never_falls_and_later_sweeps_find_what_lies_between():
    """The score is largest at one ratio, which is no end of its range."""

    def bump(inputs):
        return np.exp(-20 * (inputs["numbers"][:, 3] - 0.1) ** 2).astype(np.float32)

    batch = batch_of(200)
    batch.labels[:] = 0
    losses_of = [
        losses("binary_classification", batch.labels, bump(found_by(bump, batch, queries)[0]))
        for queries in (0, 6, 100)
    ]
    assert (losses_of[1] >= losses_of[0]).all()
    assert losses_of[2].mean() > 1.2 * losses_of[1].mean()


def test_what_is_found_is_feasible_and_depends_on_the_draws_only():
    batch = batch_of(60, missing=0.1)
    found, where = found_by(scores, batch, queries=30)
    again, _ = found_by(scores, batch, queries=30)
    np.testing.assert_array_equal(found["numbers"], again["numbers"])
    raw, there = where.raw_of(found["numbers"]), ~np.isnan(where.raw)
    assert ((raw >= where.low) & (raw <= where.high))[there].all()
    np.testing.assert_array_equal(where.settle(found["numbers"]), found["numbers"])


def test_losses_by_hand():
    labels, scores = np.array([1, 0]), np.array([0.25, 0.25])
    expected = -np.log([0.25, 0.75])
    np.testing.assert_allclose(losses("binary_classification", labels, scores), expected)
    classes = np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])
    found = losses("multiclass_classification", labels, classes)
    np.testing.assert_allclose(found, -np.log([0.25, 0.5]))
    numbers = losses("regression", np.array([[1.0, 2.0]]), np.array([[2.0, 4.0]]))
    np.testing.assert_allclose(numbers, [2.5])


def test_numbers_that_do_not_belong_to_the_labels_are_refused():
    with pytest.raises(ConfigError, match="black_box with the task regression"):
        losses("regression", np.zeros(2), np.zeros((2, 3)))
