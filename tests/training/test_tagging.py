"""What training makes of one label per token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from qtool.config.losses import CrossEntropy, Focal, Huber
from qtool.errors import ConfigError, ModelError
from qtool.training import losses
from qtool.training.metrics import token_accuracy
from qtool.training.objective import Criterion, criterion

LABELS = torch.tensor([[0, 2, 1], [3, -100, -100], [-100, -100, -100]], dtype=torch.int32)


def tagging(section=None, output="logit") -> Criterion:
    return criterion(section, "sequence_tagging", output)


def one(tensor):
    return {"tags": tensor}


def logits(seed=0):
    torch.manual_seed(seed)
    return torch.randn(3, 3, 4)


def test_cross_entropy_by_hand():
    """Four tokens of equal logits cost ln 4 each, whatever the padding says."""
    outputs = torch.zeros(3, 3, 4)
    outputs[LABELS == -100] = torch.tensor([50.0, -50.0, 0.0, 0.0])
    assert tagging().loss(one(outputs), LABELS, {}).item() == pytest.approx(math.log(4))


def test_cross_entropy_is_that_of_torch():
    found = tagging().loss(one(logits()), LABELS, {})
    # Its ignore_index is -100.
    expected = functional.cross_entropy(logits().transpose(1, 2), LABELS.long())
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    section = CrossEntropy(
        name="cross_entropy", class_weights=[1.0, 2.0, 3.0, 4.0], label_smoothing=0.1
    )
    expected = functional.cross_entropy(
        logits().transpose(1, 2),
        LABELS.long(),
        weight=torch.tensor(section.class_weights),
        label_smoothing=0.1,
    )
    found = tagging(section).loss(one(logits()), LABELS, {})
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_focal_loss_is_that_of_the_tokens():
    counted = LABELS != -100
    expected = losses.focal(logits()[counted], LABELS[counted], 2.0)
    found = tagging(Focal(name="focal")).loss(one(logits()), LABELS, {})
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_probabilities_are_logs():
    found = tagging(output="probability").loss(one(logits().softmax(2)), LABELS, {})
    expected = tagging().loss(one(logits()), LABELS, {})
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("section", [None, Focal(name="focal")])
def test_a_batch_of_nothing_but_padding_costs_nothing(section):
    outputs = logits().requires_grad_()
    nothing = torch.full_like(LABELS, -100)
    judge = tagging(section)
    loss = judge.loss(one(outputs), nothing, {})
    loss = loss + judge.distillation(one(outputs), one(logits(1)), {}, 2.0, "logit", nothing)
    loss.backward()
    assert loss.item() == 0
    assert not outputs.grad.any()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 4), r"shape \(3, 4\); expected \(3, 3\) and the tags"),
        ((3, 2, 4), r"shape \(3, 2, 4\); expected \(3, 3\) and the tags"),
        ((3, 3, 3), "3 classes, and a row of class 3"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ModelError, match=message):
        tagging().loss(one(torch.zeros(shape)), LABELS, {})


def test_the_metric_reads_the_best_tag():
    judge = tagging()
    assert (judge.metric.name, judge.metric.higher_is_better) == ("token_accuracy", True)
    tags = judge.predictions(one(logits()))
    assert torch.equal(tags, logits().argmax(dim=2))
    with pytest.raises(ModelError, match=r"shape \(3, 4\); expected \(rows, steps, tags\)"):
        judge.predictions(one(torch.zeros(3, 4)))


def test_token_accuracy_by_hand():
    tags = np.array([[0, 2, 2], [3, 1, 1], [0, 0, 0]], np.float32)
    assert token_accuracy(LABELS.numpy(), tags) == 3 / 4
    assert token_accuracy(np.full((2, 3), -100), tags[:2]) is None


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_smallest_at_the_teacher_and_leaves_padding_out(temperature):
    own = logits().requires_grad_()
    teacher = logits()
    teacher[LABELS == -100] += torch.randn(5, 4)
    tagging().distillation(one(own), one(teacher), {}, temperature, "logit", LABELS).backward()
    assert own.grad.abs().max() < 1e-6
    far = tagging().distillation(one(own), one(logits(1)), {}, temperature, "logit", LABELS)
    near = tagging().distillation(one(own), one(teacher), {}, temperature, "logit", LABELS)
    assert far > near


def test_distillation_without_labels_compares_all_steps():
    found = tagging().distillation(one(logits()), one(logits(1)), {}, 2.0, "logit")
    expected = losses.soft_classes(logits().flatten(0, 1), logits(1).flatten(0, 1), 2.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    with pytest.raises(ModelError, match="teacher"):
        tagging().distillation(one(logits()), one(torch.zeros(3, 3, 5)), {}, 1.0, "logit", LABELS)


def test_losses_of_other_tasks_are_refused():
    with pytest.raises(ConfigError, match="huber in the task sequence_tagging"):
        tagging(Huber(name="huber"))
