"""What of the training sections decides the result."""

from __future__ import annotations

from pathlib import Path

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
            "distill": Distill(teacher=teacher),
            **options,
        }
    )


def test_places_devices_and_logs_are_no_settings() -> None:
    here = section("here").settings()
    assert section("there", device="cpu", log=["tensorboard"]).settings() == here
    assert "here" not in str(here)
    assert section("here", learning_rate=0.5).settings() != here
    assert here["distill"]["teacher"] == {"output": "probability", "output_name": None}


def test_a_section_without_functions_has_settings() -> None:
    assert Training().settings()["loss"] is None
    assert TrainQat().settings()["augment"]["function"] is None
