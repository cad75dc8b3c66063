"""A student that learns from a teacher: what it minimises, and how close it comes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training.samples import StopAfter, Stopped, make_rows, scorer

from qtool.config.training import DistillStudent, Training
from qtool.data.memory_map import Rows
from qtool.errors import ModelError
from qtool.progress import SilentProgress
from qtool.training.distillation import Taught, model_inputs, stored_name, stored_teacher
from qtool.training.fit import Work
from qtool.training.fp32 import train_fp32
from qtool.training.objective import criterion

TEACHER = {"onnx": "teacher.onnx", "output": "probability"}
SECTION = Training(epochs=20, batch_size=64, learning_rate=0.02, checkpoint_steps=7)


def distilled(**options):
    return DistillStudent(teacher=TEACHER, **options)


def taught(outputs, answers, task="binary_classification", output="probability", **options):
    """The loss of fixed outputs, beside fixed answers of a teacher."""
    inputs = {"x": torch.zeros(len(answers), 1), stored_name("answer"): torch.tensor(answers)}
    teacher = stored_teacher(["answer"], output)
    loss = Taught(
        lambda given, names: {"output": torch.tensor(outputs)} if [*given] == ["x"] else {},
        criterion(None, task, "logit"),
        teacher,
        distilled(**options),
    )
    return loss.loss(inputs, options.pop("labels", None)).item()


def test_soft_targets_by_hand():
    # Logits 0 and log 3 are the probabilities 1/2 and 3/4.
    found = taught([0.0, np.log(3.0)], [[0.75, 0.25], [0.25, 0.75]])
    expected = [np.log(2), -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))]
    assert found == pytest.approx(np.mean(expected), rel=1e-6)


def test_a_temperature_softens_both():
    # With T = 2 the teacher's logit log 9 becomes log 3, and the loss is multiplied by 4.
    found = taught([0.0], [[0.1, 0.9]], temperature=2.0)
    assert found == pytest.approx(4 * np.log(2), rel=1e-6)


def test_soft_classes_by_hand():
    answers = [[0.5, 0.25, 0.25]]
    found = taught([[0.0, 0.0, 0.0]], answers, "multiclass_classification")
    assert found == pytest.approx(np.log(3), rel=1e-6)


def test_numbers_are_compared_by_their_square_whatever_their_axes():
    found = taught([1.0, 4.0], [[2.0], [2.0]], "regression", "logit")
    assert found == pytest.approx((1 + 4) / 2)


def test_other_classes_of_the_teacher_are_refused():
    with pytest.raises(ModelError, match=r"distill.teacher: an output of shape \(1, 2\)"):
        taught([[0.0, 0.0, 0.0]], [[0.5, 0.5]], "multiclass_classification")


def test_the_labels_have_the_rest_of_the_weight():
    bce = criterion(None, "binary_classification", "logit")
    inputs = {"x": torch.zeros(2, 1), stored_name("answer"): torch.tensor([[0.5, 0.5], [0.2, 0.8]])}
    logits, labels = torch.tensor([0.3, -0.7]), torch.tensor([1, 0])

    def loss(weight):
        teacher = stored_teacher(["answer"], "probability")
        section = distilled(weight=weight)
        found = Taught(lambda given, names: {"output": logits}, bce, teacher, section)
        return found.loss(inputs, labels).item()

    assert loss(0.25) == pytest.approx(0.75 * loss(0) + 0.25 * loss(1))
    assert loss(0) == pytest.approx(bce.loss({"output": logits}, labels, {}).item())


def truth(rows):
    """The probability that the label of ``make_rows`` is drawn with."""
    x, category = rows.inputs["numeric"], rows.inputs["category"]
    score = x[:, 0] / 50 - x[:, 1] * x[:, 2] + x[:, 3] / 6 + 0.4 * (category.reshape(-1) > 3)
    positive = torch.special.ndtr(torch.from_numpy(score / 0.5)).numpy().astype(np.float32)
    return np.stack([1 - positive, positive], axis=1)


def with_teacher(rows):
    return Rows({**rows.inputs, stored_name("answer"): truth(rows)}, rows.labels)


ROWS, VALIDATION = with_teacher(make_rows(600)), with_teacher(make_rows(1000, seed=2))


def train(folder, distill, progress=None, epochs=20):
    folder.mkdir(exist_ok=True)
    work = Work(ROWS, VALIDATION, 3, folder / "checkpoint", progress or SilentProgress())
    module, section = scorer(), SECTION.model_copy(update={"distill": distill, "epochs": epochs})
    bce = criterion(None, "binary_classification", "logit")
    teacher = None if distill is None else stored_teacher(["answer"], "probability")
    history = train_fp32(module, section, bce, work, teacher)
    return module, history


def distance(module):
    inputs = {n: torch.from_numpy(a) for n, a in model_inputs(VALIDATION.inputs).items()}
    with torch.no_grad():
        found = torch.sigmoid(module.eval()(**inputs))[:, 0].numpy()
    return np.abs(found - truth(VALIDATION)[:, 1]).mean()


def test_a_student_comes_closer_to_its_teacher_than_the_labels_lead_it(tmp_path):
    alone, _ = train(tmp_path / "alone", None)
    student, _ = train(tmp_path / "student", distilled())
    assert distance(student) < 0.8 * distance(alone)


def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path):
    section = distilled(weight=0.5)
    undisturbed, history = train(tmp_path / "a", section, epochs=3)
    with pytest.raises(Stopped):
        train(tmp_path / "b", section, StopAfter(17), epochs=3)
    resumed, again = train(tmp_path / "b", section, epochs=3)
    assert again == history
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"distill": {}}, "teacher"),
        ({"loss": {"name": "focal"}, "distill": {"teacher": TEACHER}}, "has no part"),
        ({"distill": {"teacher": {**TEACHER, "encoder": "e.json"}}}, "and there are none"),
        (
            {
                "augment": {"function": {"function": "a:b"}},
                "distill": {"teacher": {**TEACHER, "inputs": {"x": {"columns": ["a"]}}}},
            },
            "may mix rows",
        ),
    ],
)
def test_sections_that_contradict_themselves_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Training.model_validate(section)
