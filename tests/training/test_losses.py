"""Losses against examples by hand and against the libraries' own."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional

from qtool.training import losses

LN2 = math.log(2)


def test_the_positive_weight_counts_positive_rows():
    """At logit 0 each row costs ln 2; positive rows cost three times as much: (3 + 1) / 2 ln 2."""
    loss = losses.binary_cross_entropy(torch.zeros(2), torch.tensor([1, 0]), 3.0)
    assert loss.item() == pytest.approx(2 * LN2)


def test_focal_loss_by_hand():
    """p = 1/2: (1/2)^2 ln 2 for each row; the positive one counts three times."""
    loss = losses.binary_focal(torch.zeros(2), torch.tensor([1, 0]), 2.0, 3.0)
    assert loss.item() == pytest.approx((3 + 1) / 2 * LN2 / 4)


@given(st.integers(0, 1000))
def test_focal_loss_without_focus_is_cross_entropy(seed):
    torch.manual_seed(seed)
    logits, labels = torch.randn(9, 4), torch.randint(4, (9,))
    assert losses.focal(logits, labels, 0.0).item() == pytest.approx(
        losses.cross_entropy(logits, labels).item(), rel=1e-5
    )
    binary = torch.randint(2, (9,))
    assert losses.binary_focal(logits[:, 0], binary, 0.0).item() == pytest.approx(
        losses.binary_cross_entropy(logits[:, 0], binary).item(), rel=1e-5
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_sure_rows_has_a_gradient(gamma):
    """Where p rounds to 1, (1 - p) ** 0.5 would have an infinite one."""
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    loss = losses.focal(logits, torch.tensor([0, 0]), gamma)
    loss = loss + losses.binary_focal(logits[:, 0], torch.tensor([1, 1]), gamma)
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert torch.isfinite(logits.grad).all()


def test_class_weights_weigh_rows():
    """Rows of class 0 cost ln 2 each, at weight 3: (3 + 1) ln 2 over 3 + 1."""
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    weighted = losses.cross_entropy(logits, torch.tensor([0, 1]), [3.0, 1.0])
    assert weighted.item() == pytest.approx((3 * LN2 + math.log(4 / 3)) / 4)


@given(st.integers(0, 1000))
def test_pinball_is_that_of_scikit_learn(seed):
    torch.manual_seed(seed)
    predictions, labels = torch.randn(7, 2, 3), torch.randn(7, 2)
    quantiles = [0.1, 0.5, 0.9]
    expected = [
        mean_pinball_loss(labels.numpy(), predictions[..., i].numpy(), alpha=q)
        for i, q in enumerate(quantiles)
    ]
    found = losses.pinball(predictions, labels, quantiles).item()
    assert found == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_gaussian_nll_is_that_of_the_distribution():
    means, log_variances, labels = torch.randn(5, 2), torch.randn(5, 2), torch.randn(5, 2)
    normal = torch.distributions.Normal(means, torch.exp(log_variances / 2))
    expected = -normal.log_prob(labels).mean()
    assert losses.gaussian_nll(means, log_variances, labels).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_info_nce_of_orthogonal_pairs_by_hand():
    """Own pair at cosine 1, the other at 0, temperature 1: ln(e + 1) - 1 in both directions."""
    pairs = torch.eye(2)
    assert losses.info_nce(pairs, 5 * pairs, 1.0).item() == pytest.approx(math.log(math.e + 1) - 1)


def test_supervised_contrastive_by_hand():
    """Rows 0 and 1 are alike and share a label; row 2 is orthogonal and alone: ln(e + 1) - 1."""
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = losses.supervised_contrastive(vectors, torch.tensor([0, 0, 1]), 1.0)
    assert loss.item() == pytest.approx(math.log(math.e + 1) - 1)


def test_supervised_contrastive_without_partners_is_zero():
    vectors = torch.randn(3, 4, requires_grad=True)
    loss = losses.supervised_contrastive(vectors, torch.tensor([0, 1, 2]), 0.5)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(vectors.grad).all()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_smallest_at_the_teacher(temperature):
    teacher = torch.tensor([0.3, -2.0])
    logits = teacher.clone().requires_grad_(True)
    losses.soft_binary(logits, teacher, temperature).backward()
    assert logits.grad.abs().max() < 1e-6
    classes = torch.randn(3, 4)
    logits = classes.clone().requires_grad_(True)
    losses.soft_classes(logits, classes, temperature).backward()
    assert logits.grad.abs().max() < 1e-6


def test_the_temperature_keeps_the_size_of_the_gradient():
    """Hinton et al., section 2: in the limit it is that of the logits' squared distance."""
    teacher = torch.randn(4, 3)
    sizes = []
    for temperature in (20.0, 40.0):
        logits = torch.zeros(4, 3, requires_grad=True)
        losses.soft_classes(logits, teacher, temperature).backward()
        sizes.append(logits.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_features_are_compared_free_of_scale():
    teacher = torch.randn(6, 5)
    assert losses.feature_distance(teacher, teacher) == 0
    assert losses.feature_distance(0 * teacher, teacher).item() == pytest.approx(1)
    assert losses.feature_distance(3 * teacher / 2, 3 * teacher).item() == pytest.approx(0.25)


def test_soft_classes_of_a_sure_teacher_is_cross_entropy():
    logits, labels = torch.randn(5, 3), torch.randint(3, (5,))
    sure = 100.0 * functional.one_hot(labels, 3)
    assert losses.soft_classes(logits, sure).item() == pytest.approx(
        losses.cross_entropy(logits, labels).item(), rel=1e-5
    )
