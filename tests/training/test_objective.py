from __future__ import annotations

import pytest
import torch

from qtool.errors import ModelError
from qtool.training.objective import binary_logits, binary_loss, distillation_loss, only_output


def test_two_logits_are_their_difference():
    assert binary_logits(torch.tensor([[1.0, 3.0]]), "logit").tolist() == [2.0]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_one_logit_stays(shape):
    assert binary_logits(torch.ones(shape), "logit").tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("output", [[0.25, 1.0, 0.0], [[0.75, 0.25], [0.0, 1.0], [1.0, 0.0]]])
def test_probabilities_become_finite_logits(output):
    output = torch.tensor(output, requires_grad=True)
    logits = binary_logits(output, "probability")
    assert torch.sigmoid(logits).tolist() == pytest.approx([0.25, 1.0, 0.0], abs=2e-6)
    loss = binary_loss(logits, torch.tensor([1.0, 0.0, 1.0]), positive_weight=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("shape", [(3, 3), (3, 1, 1), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ModelError, match="expected"):
        binary_logits(torch.zeros(shape), "logit")


def test_the_positive_weight_counts_positive_rows():
    """At logit 0 each row costs ln 2; positive rows cost three times as much: (3 + 1) / 2 ln 2."""
    loss = binary_loss(torch.zeros(2), torch.tensor([1.0, 0.0]), positive_weight=3.0)
    assert loss.item() == pytest.approx(2 * 0.693147, rel=1e-5)


def test_distillation_is_smallest_at_the_teacher():
    teacher = torch.tensor([0.3, -2.0])
    logits = teacher.clone().requires_grad_(True)
    distillation_loss(logits, teacher).backward()
    assert logits.grad.abs().max() < 1e-7


def test_several_outputs_are_refused():
    with pytest.raises(ModelError, match="a, b"):
        only_output({"a": torch.zeros(1), "b": torch.zeros(1)})
