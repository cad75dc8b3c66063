"""Changes to training rows: noise, adversarial moves, functions of the user."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qtool.config.training import Adversarial, Augment, FunctionAugment
from qtool.errors import ConfigError, ModelError
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


def test_a_function_that_loses_an_input_is_refused():
    with pytest.raises(ModelError, match="returned the inputs numeric; expected numeric, category"):
        changed(users("forget"), inputs())


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
