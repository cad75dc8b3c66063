"""What a task and its loss make of outputs, labels and a teacher."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from qtool.config.losses import (
    Contrastive,
    CrossEntropy,
    FunctionLoss,
    GaussianNll,
    Huber,
    NextToken,
    Quantile,
)
from qtool.errors import ConfigError, ModelError
from qtool.training import losses
from qtool.training.objective import criterion
from qtool.training.outputs import binary_logits

HERE = Path(__file__).parent


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
    loss = losses.binary_cross_entropy(logits, torch.tensor([1.0, 0.0, 1.0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output.grad).all()


@pytest.mark.parametrize("shape", [(3, 3), (3, 1, 1), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ModelError, match="expected"):
        binary_logits(torch.zeros(shape), "logit")


def one(tensor):
    return {"output": tensor}


def test_the_usual_losses_by_hand():
    binary = criterion(None, "binary_classification", "logit")
    assert binary.loss(one(torch.zeros(2, 1)), torch.tensor([0, 1]), {}).item() == pytest.approx(
        math.log(2)
    )
    classes = criterion(None, "multiclass_classification", "logit")
    assert classes.loss(one(torch.zeros(2, 5)), torch.tensor([0, 4]), {}).item() == pytest.approx(
        math.log(5)
    )
    numbers = criterion(None, "regression", "logit")
    labels = torch.tensor([1.0, 2.0])
    assert numbers.loss(one(torch.zeros(2, 1)), labels, {}).item() == pytest.approx(2.5)
    assert numbers.loss(one(torch.zeros(2)), labels, {}).item() == pytest.approx(2.5)
    assert (binary.metric.name, classes.metric.name, numbers.metric.name) == (
        "auc",
        "accuracy",
        "rmse",
    )


def test_class_probabilities_are_logs():
    probabilities = torch.tensor([[0.25, 0.75, 0.0]])
    classes = criterion(None, "multiclass_classification", "probability")
    loss = classes.loss(one(probabilities), torch.tensor([1]), {})
    assert loss.item() == pytest.approx(-math.log(0.75), abs=1e-5)


def test_losses_of_several_targets():
    """Three horizons, two quantiles each; target by target, as the labels are."""
    labels = torch.tensor([[1.0, 2.0, 3.0]])
    output = torch.tensor([[[1.0, 2.0], [2.0, 2.0], [3.0, 0.0]]])
    quantile = criterion(Quantile(name="quantile", quantiles=[0.5, 0.9]), "regression", "logit")
    # Errors of q 0.9: 1 - 2 = -1 costs 0.1; 0; 3 - 0 costs 2.7; the six values have the mean 2.8/6.
    expected = pytest.approx(2.8 / 6)
    assert quantile.loss(one(output), labels, {}).item() == expected
    assert quantile.loss(one(output.reshape(1, 6)), labels, {}).item() == expected
    assert quantile.metric is None
    huber = criterion(Huber(name="huber", delta=1.0), "regression", "logit")
    assert huber.loss(one(torch.zeros(1, 3)), labels, {}).item() == pytest.approx(
        (0.5 + 1.5 + 2.5) / 3
    )
    with pytest.raises(ModelError, match=r"shape \(1, 5\); expected 1 rows of 6 values"):
        quantile.loss(one(torch.zeros(1, 5)), labels, {})


def test_gaussian_outputs_are_means_then_log_variances():
    gaussian = criterion(GaussianNll(name="gaussian_nll"), "regression", "logit")
    labels, means = torch.tensor([[1.0, 5.0]]), torch.tensor([[1.0, 5.0]])
    log_variances = torch.tensor([[0.0, 2.0]])
    loss = gaussian.loss(one(torch.cat([means, log_variances], dim=1)), labels, {})
    assert loss.item() == pytest.approx(0.5 * math.log(2 * math.pi) + 0.5)


def test_next_tokens_are_shifted_and_padding_is_left_out():
    tokens = torch.tensor([[3, 1, 2, 0]])
    logits = torch.full((1, 4, 4), -50.0)
    logits[0, 0, 1] = logits[0, 1, 2] = 50.0  # predicts 1, then 2, and the padding wrongly
    logits[0, 2, 3] = 50.0
    model = criterion(NextToken(name="next_token", ignore=0), "language_model", "logit")
    assert model.loss(one(logits), None, {"tokens": tokens}).item() == pytest.approx(0)
    everything = criterion(None, "language_model", "logit")
    assert everything.loss(one(logits), None, {"tokens": tokens}).item() == pytest.approx(100 / 3)
    with pytest.raises(ConfigError, match="2 integer inputs"):
        everything.loss(one(logits), None, {"tokens": tokens, "positions": tokens})


def test_a_batch_of_nothing_but_padding_costs_nothing():
    model = criterion(NextToken(name="next_token", ignore=0), "language_model", "logit")
    inputs = {"tokens": torch.zeros(2, 3, dtype=torch.int64)}
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = model.loss(one(logits), None, inputs)
    loss = loss + model.distillation(one(logits), one(logits), inputs, 2.0, "logit")
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 9]], "a vocabulary of 4, and the token 9"),
        ([[1, -1]], "and the token -1"),
        ([[1]], "1 token per row; expected at least two"),
    ],
)
def test_tokens_that_cannot_be_predicted_are_named(tokens, message):
    tokens = torch.tensor(tokens)
    loss = criterion(None, "language_model", "logit").loss
    with pytest.raises(ModelError, match=message):
        loss(one(torch.zeros(*tokens.shape, 4)), None, {"tokens": tokens})


def test_as_many_class_weights_as_classes():
    section = CrossEntropy(name="cross_entropy", class_weights=[1.0, 2.0])
    judge = criterion(section, "multiclass_classification", "logit")
    with pytest.raises(ConfigError, match="2 weights for 3 classes"):
        judge.loss(one(torch.zeros(2, 3)), torch.tensor([0, 1]), {})


def test_contrastive_reads_two_towers_or_labels():
    loss = criterion(Contrastive(name="contrastive", temperature=1.0), "representation", "logit")
    pairs = {"left": torch.eye(2), "right": torch.eye(2)}
    assert loss.loss(pairs, None, {}).item() == pytest.approx(math.log(math.e + 1) - 1)
    assert loss.loss(one(torch.eye(2)), torch.tensor([0, 0]), {}).item() == pytest.approx(0)
    with pytest.raises(ModelError, match="1 outputs and no label"):
        loss.loss(one(torch.eye(2)), None, {})


def test_a_loss_of_another_task_is_refused():
    with pytest.raises(ConfigError, match="huber in the task binary_classification"):
        criterion(Huber(name="huber"), "binary_classification", "logit")


def function(name, **arguments):
    section = FunctionLoss(
        name="function", function=f"user_losses:{name}", pythonpath=HERE, arguments=arguments
    )
    return criterion(section, "binary_classification", "logit").loss


def test_a_function_of_the_user():
    labels = torch.tensor([1, 1])
    assert function("squared", factor=3.0)(one(torch.zeros(2, 1)), labels, {}).item() == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vector", r"returned a Tensor of shape \(2, 1\); expected a tensor of shape \(\)"),
        ("broken", r"user_losses.py:\d+ raised KeyError: 'amount'"),
        ("square", "has no 'square'.*Did you mean 'squared'"),
        ("leave", r"user_losses.py:\d+ raised SystemExit: 0"),
        ("in_place", "changed a tensor in place"),
    ],
)
def test_faults_of_the_users_function_are_named(name, message):
    with pytest.raises(ModelError, match=message):
        function(name)(one(torch.zeros(2, 1)), None, {})


def test_what_a_function_prints_goes_beside_the_result(capsys):
    function("talking")(one(torch.zeros(2, 1)), None, {})
    assert capsys.readouterr() == ("", "at work\n")


@pytest.mark.parametrize(
    ("task", "output"),
    [
        ("binary_classification", torch.tensor([[0.5], [-2.0]])),
        ("multiclass_classification", torch.randn(4, 3)),
        ("regression", torch.randn(4, 2)),
        ("language_model", torch.randn(2, 5, 7)),
        ("representation", torch.randn(4, 8)),
    ],
)
def test_distillation_is_smallest_at_the_teacher(task, output):
    own = output.clone().requires_grad_()
    inputs = {"tokens": torch.randint(7, (2, 5))}
    judge = criterion(None, task, "logit")
    judge.distillation(one(own), one(output), inputs, 2.0, "logit").backward()
    assert own.grad.abs().max() < 1e-6
    judge.distillation(one(own), one(output + torch.randn_like(output)), inputs, 1.0, "logit")


def test_a_teacher_of_another_shape_is_refused():
    judge = criterion(None, "regression", "logit")
    with pytest.raises(ModelError, match="teacher"):
        judge.distillation(one(torch.zeros(4, 2)), one(torch.zeros(4, 1)), {}, 1.0, "logit")
    judge = criterion(None, "multiclass_classification", "logit")
    with pytest.raises(ModelError, match="teacher"):
        judge.distillation(one(torch.zeros(4, 2)), one(torch.zeros(4, 3)), {}, 1.0, "logit")


def test_a_teacher_with_fewer_outputs_is_refused():
    judge = criterion(None, "representation", "logit")
    towers = {"left": torch.zeros(4, 2), "right": torch.zeros(4, 2)}
    with pytest.raises(ModelError, match="the teacher has 1 outputs, the model 2"):
        judge.distillation(towers, one(torch.zeros(4, 2)), {}, 1.0, "logit")
