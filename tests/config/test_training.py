"""What of the training sections decides the result."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from qtool.config.losses import FunctionLoss
from qtool.config.training import Augment, Distill, FunctionAugment, Teacher, Training, TrainQat


def section(place: str, **options: object) -> TrainQat:
    path = Path(place)
    loss = FunctionLoss(name="function", function="mine:loss", pythonpath=path)
    function = FunctionAugment(function="mine:augment", pythonpath=path)
    teacher = Teacher(onnx=path / "teacher.onnx", output="probability")
    return TrainQat.model_validate(
        {
            "loss": loss,
            "augment": Augment(function=function),
            "distill": Distill(weight=0.5, teacher=teacher),
            **options,
        }
    )


def test_places_devices_and_logs_are_no_settings() -> None:
    here = section("here").settings()
    assert section("there", device="cpu", log=["tensorboard"]).settings() == here
    assert "here" not in str(here)
    assert section("here", learning_rate=0.5).settings() != here
    assert here["distill"]["weight"] == 0.5
    known = {"output": "probability", "output_name": None, "inputs": {}}
    assert here["distill"]["teacher"] == known


def test_a_section_without_functions_has_settings() -> None:
    assert Training().settings()["loss"] is None
    assert TrainQat().settings()["augment"]["function"] is None


@pytest.mark.parametrize("kind", [Training, TrainQat])
def test_momentum_without_sgd_is_refused(kind) -> None:
    assert kind.model_validate({"optimizer": "sgd", "momentum": 0.5}).momentum == 0.5
    for options in ({}, {"optimizer": "adamw"}):
        with pytest.raises(ValidationError, match="momentum is of sgd, and optimizer is adamw"):
            kind.model_validate({"momentum": 0.5, **options})


@pytest.mark.parametrize(
    "loss",
    [{"name": "focal"}, {"name": "contrastive"}, {"name": "function", "function": "mine:loss"}],
)
def test_a_loss_that_distillation_leaves_nothing_is_refused(loss) -> None:
    for weight in (0, 0.999):
        TrainQat.model_validate({"loss": loss, "distill": {"weight": weight}})
    for distill in ({}, {"weight": 1}):
        with pytest.raises(ValidationError, match=f"loss {loss['name']} has no part in the tr"):
            TrainQat.model_validate({"loss": loss, "distill": distill})


def test_a_loss_that_says_what_the_outputs_are_is_of_use_to_distillation() -> None:
    quantiles = {"name": "quantile", "quantiles": [0.1, 0.9]}
    for loss in (quantiles, {"name": "gaussian_nll"}, {"name": "next_token", "tokens": "x"}):
        assert TrainQat.model_validate({"loss": loss, "distill": {}}).loss is not None
