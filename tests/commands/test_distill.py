"""FP32 training with the tree ensembles of other libraries as teachers, from the command line."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from support.cli import qtool, succeeded

NETWORK = """
from torch import nn

def build(inputs, outputs=1):
    return Net(inputs["x"]["shape"][0], outputs)

class Net(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        layers = nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, outputs)
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)
"""
CONFIG = """\
name: student
model: {torch: 'student_networks:build'}
data:
  source: rows.parquet
  label: bad
  inputs: {x: {columns: [a, b, c], scale: standard}}
training:
  epochs: 8
  batch_size: 64
  learning_rate: 0.01
quantization: {method: static, samples: 200}
evaluation: {latency: {enabled: false}}
"""
TEACHER = (
    "training.distill={weight: 1.0, teacher: {onnx: TEACHER.onnx, output: probability, "
    "output_name: output_probability, inputs: {X: [{columns: [a, b, c]}, "
    "{kind: categorical, columns: [kind]}]}}}"
)


def boosted(columns, labels):
    return GradientBoostingClassifier(n_estimators=40, random_state=0).fit(columns, labels)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Rows whose label is noisy, and teachers that have seen many more of them."""
    folder = tmp_path_factory.mktemp("student")
    (folder / "student_networks.py").write_text(NETWORK)
    (folder / "config.yaml").write_text(CONFIG)
    generator = np.random.default_rng(0)

    def rows(count):
        x = generator.standard_normal((count, 3)).astype(np.float32)
        kind = generator.integers(0, 3, count)
        score = 2 * x[:, 0] * x[:, 1] + x[:, 2]
        return x, kind, score, (score + 2 * generator.standard_normal(count) > 0).astype(int)

    x, kind, score, bad = rows(8000)
    columns = np.column_stack([x, kind + 1]).astype(np.float32)  # codes start at 1
    three = np.digitize(score, [-1, 1])
    teachers = {
        "binary": boosted(columns, bad),
        "three": boosted(columns, three),
        "numbers": RandomForestRegressor(20, max_depth=6, random_state=0).fit(columns, score),
    }
    for name, model in teachers.items():
        (folder / f"{name}.onnx").write_bytes(to_onnx(model, columns[:1]).SerializeToString())
    x, kind, score, bad = rows(1500)
    table = {"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": np.array(["u", "v", "w"])[kind]}
    labels = {"bad": bad, "three": np.digitize(score, [-1, 1]), "number": score}
    pq.write_table(pa.table({**table, **labels}), folder / "rows.parquet")
    return folder


def arguments(project, name, *overrides):
    settings = [word for override in overrides for word in ("--set", override)]
    directory = project / "runs" / name
    options = ("--run-dir", directory, "--quiet", "--pythonpath", project)
    return "run", project / "config.yaml", *options, *settings


def taught_by(project, name="binary", section=TEACHER):
    return section.replace("TEACHER.onnx", str(project / f"{name}.onnx"))


def scores(project, name):
    session = ort.InferenceSession(project / "runs" / name / "fp32" / "model.onnx")
    table = pq.read_table(project / "rows.parquet")
    x = np.column_stack([table[c].to_numpy() for c in "abc"]).astype(np.float32)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return 1 / (1 + np.exp(-session.run(None, {session.get_inputs()[0].name: x})[0][:, 0]))


def teacher_scores(project):
    session = ort.InferenceSession(project / "binary.onnx")
    table = pq.read_table(project / "rows.parquet")
    kinds = np.searchsorted(["u", "v", "w"], table["kind"].to_pylist()) + 1
    x = np.column_stack([*(table[c].to_numpy() for c in "abc"), kinds]).astype(np.float32)
    return np.array([row[1] for row in session.run(["output_probability"], {"X": x})[0]])


def test_a_student_is_closer_to_its_teacher_than_without(project):
    """The teacher ends in a ZipMap, as its converter writes it."""
    succeeded(*arguments(project, "alone"))
    succeeded(*arguments(project, "student", taught_by(project)))
    expected = teacher_scores(project)
    alone, student = (np.abs(scores(project, n) - expected).mean() for n in ("alone", "student"))
    assert student < 0.8 * alone
    result = json.loads((project / "runs" / "student" / "evaluate" / "evaluation.json").read_text())
    assert [one["title"] for one in result["ancestors"]] == ["teacher", "FP32", "INT8"]
    teacher, fp32, int8 = (one["metrics"]["auc"] for one in result["ancestors"])
    assert teacher > 0.7
    assert fp32 == pytest.approx(result["metrics"]["auc"]["fp32"])
    assert int8 == pytest.approx(result["metrics"]["auc"]["int8"])


def test_the_content_of_the_teacher_is_part_of_the_key(project):
    keys, model = [], onnx.load(project / "binary.onnx")
    for version in ("1", "1", "2"):
        model.producer_version = version
        onnx.save(model, project / "teacher.onnx")
        short = (taught_by(project, "teacher"), "training.epochs=1")
        succeeded(*arguments(project, "keys", *short))
        record = project / "runs" / "keys" / "fp32" / "stage.json"
        keys.append(json.loads(record.read_text())["key"])
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("task", "label", "teacher", "outputs", "metric"),
    [
        ("multiclass_classification", "three", "three", 3, "accuracy"),
        ("regression", "number", "numbers", 1, "rmse"),
    ],
)
def test_other_tasks(project, task, label, teacher, outputs, metric):
    section = taught_by(project, teacher)
    if task == "regression":
        section = section.replace("output: probability, output_name: output_probability, ", "")
    overrides = (
        f"task={task}",
        f"data.label={label}",
        f"model.arguments.outputs={outputs}",
        f"evaluation.metrics=[{metric}]",
        section,
    )
    succeeded(*arguments(project, task, *overrides))
    result = json.loads((project / "runs" / task / "evaluate" / "evaluation.json").read_text())
    assert len(result["ancestors"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("TEACHER.onnx", "missing.onnx"), "no such file"),
        (("output_probability", "output_label"), "'output_label' of the teacher"),
        (("output_probability", "score"), "no output 'score'"),
        (("output: probability", "output: logit"), "Set output: probability."),
        (("{X: [", "{Y: ["), "has no input 'Y'"),
        (("[a, b, c]}, ", "[a, b]}, "), "makes (3,) for a row"),
        (("columns: [kind]", "columns: [sort]"), "'sort'"),
        (("binary", "three"), "an output of shape"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_training(project, change, message):
    section = taught_by(project, "three" if change[0] == "binary" else "binary", TEACHER)
    section = section.replace(*change)
    if change[0] == "TEACHER.onnx":
        section = TEACHER.replace(*change)
    done = qtool(*arguments(project, "refused", section))
    assert done.code in (3, 4, 5), done.err
    assert message in done.err
    assert "epoch 1" not in done.err


def test_a_teacher_of_the_models_own_inputs_is_asked_in_every_step(project):
    succeeded(*arguments(project, "first", "training.epochs=1"))
    teacher = project / "runs" / "first" / "fp32" / "model.onnx"
    section = f"training.distill={{teacher: {{onnx: {teacher}}}}}"
    succeeded(*arguments(project, "second", section))
    difference = np.abs(scores(project, "second") - scores(project, "first")).mean()
    assert difference < 0.02
