"""Changes to training rows: noise, adversarial moves, functions of the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from qtool.config.evaluation import Box
from qtool.config.training import Adversarial, Augment, FunctionAugment
from qtool.data.encoding import Encoder
from qtool.data.tabular import NumericEncoding
from qtool.errors import ConfigError, ModelError
from qtool.robustness.feasible import decoded, movable
from qtool.training.augment import augmentation

NAMES = ["numeric", "category"]
WEIGHTS = torch.tensor([1.0, -2.0, 0.0])


def inputs(rows=2000):
    torch.manual_seed(0)
    return {"numeric": torch.randn(rows, 3), "category": torch.randint(5, (rows,))}


def loss(values, labels):
    return (values["numeric"] @ WEIGHTS).mean()


def changed(section, values):
    return augmentation(section, loss, NAMES)(values, None)[0]


def test_nothing_is_changed_when_nothing_is_asked_for():
    values = inputs()
    assert changed(Augment(), values) is values


def test_noise_has_the_given_deviation_and_leaves_other_inputs():
    values = inputs()
    noisy = changed(Augment(noise={"numeric": 0.3}), values)
    assert (noisy["numeric"] - values["numeric"]).std().item() == pytest.approx(0.3, rel=0.05)
    assert noisy["category"] is values["category"]


@pytest.mark.parametrize("steps", [1, 5])
def test_the_adversarial_move_follows_the_sign_of_the_gradient(steps):
    """The loss is linear, so that every step goes the same way and ends at epsilon."""
    values = inputs()
    section = Adversarial(inputs=["numeric"], epsilon=0.1, steps=steps, share=1.0)
    moved = changed(Augment(adversarial=section), values)["numeric"] - values["numeric"]
    torch.testing.assert_close(moved, (0.1 * WEIGHTS.sign()).expand(2000, 3), atol=1e-6, rtol=0)


def mutable(steps=1, share=1.0):
    box = Box(columns=["count"], range=3, unit="raw", integer=True, direction="down", low=-5)
    return Augment(adversarial=Adversarial(mutable=[box], steps=steps, share=share))


@pytest.mark.parametrize("steps", [1, 30])
def test_columns_are_moved_within_what_can_be_changed(steps):
    """The weight of the count is -2, and it may only fall: by three, to -5 at most."""
    encoding = NumericEncoding(
        ("amount", "count", "flag"),
        (1, 1, 1),
        None,
        np.array([False, True, False]),
        np.array([1, 0.7, 0], np.float32),
        np.array([2, 1.3, 1], np.float32),
        None,
    )
    raw = np.random.default_rng(0).integers(-8, 9, (500, 3)).astype(np.float32)
    values = {"numeric": torch.from_numpy(encoding.apply(raw))}
    section = mutable(steps)
    encoder = Encoder({"numeric": encoding})
    reference = {"numeric": values["numeric"].numpy()}
    columns = movable(section.adversarial.mutable, encoder, reference, "mutable")
    change = augmentation(section, loss, ["numeric"], columns)
    found = change(values, None)[0]["numeric"].numpy()
    expected = raw.copy()
    expected[:, 1] = np.where(raw[:, 1] < -5, raw[:, 1], np.maximum(raw[:, 1] - 3, -5))
    np.testing.assert_allclose(decoded(encoding, found), expected, atol=1e-4)


def test_columns_need_their_encoder():
    with pytest.raises(ConfigError, match="no encoder that reads them"):
        augmentation(mutable(), loss, NAMES)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "give inputs with epsilon, or mutable columns"),
        ({"inputs": ["x"], "epsilon": 1, "mutable": [{"columns": ["a"]}]}, "one of them"),
        ({"inputs": ["x"]}, "inputs and epsilon belong together"),
        ({"mutable": [{"columns": ["a"]}], "epsilon": 1}, "mutable columns have a range"),
    ],
)
def test_an_attack_moves_inputs_or_columns(section, message):
    with pytest.raises(ValidationError, match=message):
        Adversarial.model_validate(section)


def test_only_a_share_of_the_rows_is_moved():
    values = inputs()
    section = Adversarial(inputs=["numeric"], epsilon=0.1, share=0.25)
    moved = changed(Augment(adversarial=section), values)["numeric"] != values["numeric"]
    assert moved[:, 0].float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert not moved[:, 2].any()


def users(name):
    here = Path(__file__).parent
    return Augment(function=FunctionAugment(function=f"user_losses:{name}", pythonpath=here))


def test_a_function_of_the_user_changes_rows():
    values = inputs()
    assert torch.equal(changed(users("swap"), values)["numeric"], -values["numeric"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forget", "returned the inputs numeric; expected numeric, category"),
        ("inputs_only", "returned a dict; expected a pair"),
        ("fewer_rows", r"'numeric' as a Tensor of shape \(1, 3\); expected .* \(2000, 3\)"),
        ("arrays", "'numeric' as a ndarray"),
        ("doubles", "'numeric' as torch.float64; expected torch.float32"),
        ("leave", r"user_losses.py:\d+ raised SystemExit: 0"),
    ],
)
def test_faults_of_the_users_function_are_named(name, message):
    with pytest.raises(ModelError, match=message):
        changed(users(name), inputs())


def test_labels_may_become_numbers_but_not_be_lost():
    labels = torch.tensor([0, 1])
    change = augmentation(users("swap"), loss, NAMES)
    assert change(inputs(2), labels)[1] is labels
    with pytest.raises(ModelError, match="the labels as a NoneType"):
        augmentation(users("no_labels"), loss, NAMES)(inputs(2), labels)


def test_an_input_that_does_not_move_the_loss_is_refused():
    section = Augment(adversarial=Adversarial(inputs=["idle"], epsilon=0.1))
    change = augmentation(section, loss, [*NAMES, "idle"])
    values = {**inputs(2), "idle": torch.ones(2, 1)}
    values["numeric"].requires_grad_()
    with pytest.raises(ConfigError, match="no gradient with respect to 'idle'"):
        change(values, None)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (Augment(noise={"amount": 1.0}), "'amount' is no model input"),
        (Augment(noise={"category": 1.0}), "'category' holds torch.int64"),
    ],
)
def test_inputs_that_cannot_be_changed_are_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        changed(section, inputs())
