from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from qtool.config.load import load, schema
from qtool.errors import ConfigError, ConfigErrors, UsageError

MINIMAL = """\
name: small
model: {onnx: models/small.onnx}
data:
  source: rows.parquet
  label: bad
  inputs: {x: {columns: [a, b]}}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path, *overrides):
    with pytest.raises(ConfigErrors) as caught:
        load(path, overrides)
    return str(caught.value)


def test_paths_start_at_the_file_that_wrote_them(write, tmp_path):
    write(MINIMAL, "base/base.yaml")
    path = write("extends: base/base.yaml\nname: other\n")
    experiment = load(path).experiment
    assert experiment.name == "other"
    assert experiment.model.onnx == tmp_path / "base" / "models/small.onnx"
    assert experiment.data.source == tmp_path / "base" / "rows.parquet"


def test_arguments_of_the_user_can_be_copied(write, tmp_path):
    path = write(
        MINIMAL.replace("{onnx: models/small.onnx}", "{torch: 'a:b', arguments: {folder: weights}}")
    )
    folder = load(path).experiment.model.arguments["folder"]
    for copied in (copy.deepcopy(folder), pickle.loads(pickle.dumps(folder))):
        assert (copied, copied.directory) == ("weights", tmp_path)


def test_overrides_come_last_and_their_paths_start_here(write):
    experiment = load(
        write(MINIMAL), ["data.source=here.csv", "target.batch_sizes=[1, 8]"]
    ).experiment
    assert experiment.data.source == Path.cwd() / "here.csv"
    assert experiment.target.batch_sizes == [1, 8]


def test_null_removes_a_key_of_the_base(write):
    write(MINIMAL + "quantization: {method: static, samples: 7}\n", "base.yaml")
    path = write("extends: base.yaml\nquantization: {method: dynamic, samples: null}\n")
    assert load(path).experiment.quantization.method == "dynamic"


def test_all_errors_at_once_with_file_line_and_suggestion(write):
    path = write(
        MINIMAL.replace("label", "lable").replace("inputs", "inptus")
        + "target: {cpu: x86_am}\nevaluation: {metrics: [aux]}\n"
    )
    lines = problems(path).splitlines()
    assert len(lines) == 5
    text = "\n".join(lines)
    assert f"{path}:5: data.lable: unknown key 'lable'" in text
    assert "Did you mean 'label'?" in text
    assert f"{path}:3: data.inputs: missing" in text
    assert f"{path}:7: target.cpu: 'x86_am'; expected one of auto, x86_amx" in text
    assert f"{path}:8: evaluation.metrics[0]: 'aux'" in text


def test_errors_name_the_base_file_and_the_override(write, tmp_path):
    write(MINIMAL + "training: {epochs: 0}\n", "base.yaml")
    path = write("extends: base.yaml\n")
    assert f"{tmp_path / 'base.yaml'}:7: training.epochs: 0; expected greater than 0" in problems(
        path
    )
    assert "--set seed=x: seed: 'x'; expected a valid integer" in problems(write(MINIMAL), "seed=x")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("quantization: {method: dynamic, observer: {method: mse}}", "it only with method: static"),
        (
            "quantization: {method: static, observer: {method: mse, percentile: 99}}",
            "it only with method: percentile",
        ),
        ("training: {epochs: 1}", "training applies to a torch model"),
        ("quantization: {method: sttic}", "Did you mean 'static'?"),
        ("quantization: {samples: 5}", "no 'method'"),
        ("evaluation: {decision: {threshold: {at: score}}}", "threshold.value: missing"),
        ("task: multiclass", "one of binary_classification, multiclass_classification, reg"),
        ("task: language_model", "takes its labels from its input, the tokens. Remove data.label"),
        (
            "task: regression\nquantization: {method: static, minimum_class_share: 0.2}",
            "task regression has no classes",
        ),
    ],
)
def test_options_must_fit_the_method(write, extra, expected):
    assert expected in problems(write(f"{MINIMAL}{extra}\n"))


@pytest.mark.parametrize(
    ("label", "columns"), [("bad", ("bad",)), ("[a, b]", ("a", "b")), ("null", ())]
)
def test_label_columns(write, label, columns):
    text = MINIMAL.replace("label: bad", f"label: {label}")
    assert load(write(text + "task: regression\n")).experiment.data.label_columns == columns


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("[a, b]", "a list of columns for task regression only; found task binary_classification"),
        ("[a, b, a]", "label names a column twice: a, b, a"),
        ("[]", "data.label: []; expected"),
        ("{a: b}", "data.label: {'a': 'b'}; expected a valid string"),
    ],
)
def test_labels_that_are_no_columns(write, label, expected):
    assert expected in problems(write(MINIMAL.replace("label: bad", f"label: {label}")))


@pytest.mark.parametrize(
    ("task", "needed"),
    [
        ("binary_classification", True),
        ("multiclass_classification", True),
        ("regression", True),
        ("language_model", False),
        ("representation", False),
    ],
)
def test_which_tasks_train_without_a_label(write, task, needed):
    text = MINIMAL.replace("  label: bad\n", "") + f"task: {task}\ntrain_qat: {{epochs: 1}}\n"
    if needed:
        assert "train_qat needs labels" in problems(write(text))
    else:
        assert load(write(text)).experiment.data.label_columns == ()


def test_a_model_is_onnx_or_torch(write):
    both = MINIMAL.replace("small.onnx", "small.onnx, torch: 'a:b'")
    assert "exactly one of 'onnx' and 'torch'" in problems(write(both))
    wrong = MINIMAL.replace("small.onnx", "small.onnx, checkpoint: c.pt")
    assert "it only with 'torch'" in problems(write(wrong))
    two = "torch: 'a:b', trained: true, checkpoint: c.pt"
    assert "Remove checkpoint" in problems(write(MINIMAL.replace("onnx: models/small.onnx", two)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [", "not YAML"),
        ("- a\n", "a mapping of sections"),
        ("name: a\nname: b\n", ":2: key 'name' is given twice"),
        ("extends: config.yaml\n", "extends itself"),
        ("extends: missing.yaml\n", "no such file"),
        ("extends: [a, b]\n", "the path of one other config file"),
    ],
)
def test_unreadable_files(write, text, expected):
    with pytest.raises(ConfigError, match=expected):
        load(write(text))


@pytest.mark.parametrize("override", ["seed", "=1", "a..b=1"])
def test_overrides_must_be_assignments(write, override):
    with pytest.raises(UsageError, match="key=value"):
        load(write(MINIMAL), [override])


def test_the_schema_describes_every_section():
    described = schema()
    assert {"extends", "model", "data", "quantization", "train_qat"} <= set(described["properties"])


def test_experiments_are_frozen(write):
    experiment = load(write(MINIMAL)).experiment
    with pytest.raises(ValueError, match="frozen"):
        experiment.name = "other"
