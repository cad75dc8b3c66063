"""``qtool init`` writes a config that runs as it is; ``doctor`` and ``schema`` tell the truth."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper
from support.cli import qtool, succeeded
from support.graphs import fraud_like, fraud_rows, mlp, model_of
from support.quantizing import run

from qtool.commands.inputs import check_inputs
from qtool.config.experiment import Experiment
from qtool.config.load import load, schema
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.source import open_source
from qtool.graph.model_file import model_bytes, read_model
from qtool.graph.targets import TARGETS
from qtool.progress import SilentProgress

TRICKY = ("on", "1e3", "a b", "it's", "#x", "x: y", "日付", "null")
"""Column names that YAML would read as something else when they are not quoted."""


def labels(logits):
    """Half the rows positive, in the order of the scores but for some noise."""
    noise = 0.3 * logits.std() * np.random.default_rng(1).standard_normal(len(logits))
    return (logits + noise > np.median(logits)).astype(np.int8)


def table_of(columns=tuple(f"f{i}" for i in range(8)), label="label", rows=3000):
    values = np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)
    numbers = dict(zip(columns, values.T, strict=True))
    logits = run(mlp(), {"x": values}).reshape(-1)
    return pa.table({"id": np.arange(rows), **numbers, label: labels(logits)})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: a model of eight numbers, and rows for it."""
    (tmp_path / "model.onnx").write_bytes(model_bytes(mlp()))
    pq.write_table(table_of(), tmp_path / "rows.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs(config, *more):
    """Runs a config without timing, whatever its gates say of so few rows."""
    settings = ("evaluation.latency.enabled=false", "evaluation.gates=null", *more)
    return succeeded("run", config, *(word for each in settings for word in ("--set", each)))


def test_parquet_becomes_a_config_that_runs(folder):
    done = succeeded("init", "model.onnx", "--data", "rows.parquet")
    assert done.out == "config.yaml\nNext: qtool run config.yaml\n"
    assert done.err == ""
    assert (folder / "config.yaml").read_text().startswith("# qtool run config.yaml\nname: model\n")
    experiment = load(folder / "config.yaml").experiment
    assert experiment.data.label == "label"
    assert experiment.data.split.key == "id"
    assert experiment.data.inputs["x"].columns == [f"f{i}" for i in range(8)]
    runs("config.yaml")
    assert (folder / "runs" / "model" / "bundle" / "model.int8.onnx").is_file()


def test_what_is_written_is_the_default_but_for_the_gates(folder):
    succeeded("init", "model.onnx", "--data", "rows.parquet")
    experiment = load(folder / "config.yaml").experiment
    defaults = Experiment(name="model", model=experiment.model, data=experiment.data)
    gates = {"gates": defaults.evaluation.gates}
    assert experiment.evaluation.model_copy(update=gates) == defaults.evaluation
    for section in ("target", "quantization", "training", "export", "seed"):
        assert getattr(experiment, section) == getattr(defaults, section)


def test_csv_and_paths_elsewhere(folder):
    (folder / "in data").mkdir()
    pc.write_csv(table_of(), folder / "in data" / "rows.csv")
    (folder / "configs").mkdir()
    output = "configs/my first.yaml"
    succeeded("init", "model.onnx", "--data", "in data/*.csv", "-o", output)
    experiment = load(folder / output).experiment
    assert experiment.name == "my-first"
    runs(output)
    assert (folder / "runs" / "my-first" / "bundle").is_dir()


def test_names_that_yaml_would_misread(folder):
    pq.write_table(table_of(TRICKY, label="yes"), "true.parquet")
    succeeded("init", "model.onnx", "--data", "true.parquet", "--label", "yes", "-o", "1.yaml")
    experiment = load(folder / "1.yaml").experiment
    assert (experiment.name, experiment.data.label) == ("1", "yes")
    assert experiment.data.inputs["x"].columns == list(TRICKY)
    runs("1.yaml")


def test_codes_feed_the_integer_input(folder):
    model = fraud_like(hidden=16)
    (folder / "cards.onnx").write_bytes(model_bytes(model))
    rows = fraud_rows(3000)
    columns = {f"n{i}": rows["numeric"][:, i] for i in range(6)}
    columns |= {f"c{i}": rows["codes"][:, i] for i in range(2)}
    pq.write_table(pa.table({**columns, "fraud": labels(run(model, rows))}), "cards.parquet")
    succeeded("init", "cards.onnx", "--data", "cards.parquet")
    inputs = load(folder / "config.yaml").experiment.data.inputs
    assert (inputs["codes"].encode, inputs["codes"].columns) == ("none", ["c0", "c1"])
    assert inputs["numeric"].columns == [f"n{i}" for i in range(6)]
    runs("config.yaml")


def two_float_inputs():
    info = [(name, TensorProto.FLOAT, ["batch", 4]) for name in ("a", "b")]
    nodes = [helper.make_node("Add", ["a", "b"], ["c"])]
    return model_of(nodes, info, [("c", TensorProto.FLOAT, ["batch", 4])], {})


def no_label(table):
    return table.drop_columns(["label"])


def two_labels(table):
    flags = table["label"]
    return no_label(table).append_column("won", flags).append_column("lost", flags)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (no_label, 5, "label column: none; expected exactly one. Name it with --label."),
        (two_labels, 5, "label column: 2 candidates (won, lost)"),
        (lambda table: table.drop_columns(["f7"]), 5, "input 'x': 7 usable columns (f0, "),
        (lambda table: table.slice(0, 0), 5, "no rows"),
    ],
)
def test_data_that_does_not_fit(folder, change, code, text):
    pq.write_table(change(table_of()), "odd.parquet")
    refused(folder, code, text, "model.onnx", "--data", "odd.parquet")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("model.onnx", "--data", "rows.parquet", "--label", "bad"), 5, "column 'bad': missing"),
        (("none.onnx", "--data", "rows.parquet"), 4, "none.onnx: no such file"),
        (("rows.parquet", "--data", "rows.parquet"), 4, "not a valid ONNX model"),
        (("model.onnx", "--data", "none.parquet"), 5, "none.parquet"),
        (("model.onnx", "--data", "*.csv"), 5, "*.csv"),
        (("two.onnx", "--data", "rows.parquet"), 5, "a: float32 "),
        (("model.onnx", "--data", "rows.parquet", "-o", "rows.parquet"), 2, "the file exists"),
        (
            ("model.onnx", "--data", "rows.parquet", "-o", "no/c.yaml"),
            74,
            "No such file or directory; expected a writable place",
        ),
        (("model.onnx",), 2, "--data"),
    ],
)
def test_what_cannot_be_written(folder, arguments, code, text):
    (folder / "two.onnx").write_bytes(model_bytes(two_float_inputs()))
    refused(folder, code, text, *arguments)


def refused(folder, code, text, *arguments):
    """The command ends with one error that says ``text``, and leaves the folder as it was."""
    before = sorted(folder.rglob("*"))
    done = qtool("init", *arguments)
    assert (done.code, done.out) == (code, "")
    assert text in done.err
    assert "Traceback" not in done.err
    assert sorted(folder.rglob("*")) == before


def test_an_existing_file_is_kept_unless_forced(folder):
    config = folder / "config.yaml"
    config.write_text("mine")
    refused(folder, 2, "Use --force or --output.", "model.onnx", "--data", "rows.parquet")
    assert config.read_text() == "mine"
    succeeded("init", "model.onnx", "--data", "rows.parquet", "--force")
    assert load(config).experiment.name == "model"


def test_doctor_names_this_machine():
    done = succeeded("doctor", "--json")
    report = json.loads(done.out)
    assert report["target"] in TARGETS or report["target"].startswith("none")
    assert int(report["cores"]) > 0
    text = succeeded("doctor").out
    assert all(f"{topic:<18}{value}\n" in text for topic, value in report.items())


def test_schema_is_that_of_the_config():
    done = succeeded("schema")
    assert json.loads(done.out) == schema()
    assert set(schema()["properties"]) == {*Experiment.model_fields, "extends"}


def sequences(length: int | str = 6):
    """Card codes, two numbers per step and a mask; a table and an image beside them."""
    constants = {"one": np.array([1]), "w": np.ones((3, 1), np.float32)}
    nodes = [
        helper.make_node("Cast", ["codes"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["floats", "one"], ["a"], keepdims=1),
        helper.make_node("Mul", ["floats", "attention_mask"], ["real"]),
        helper.make_node("ReduceSum", ["real", "one"], ["m"], keepdims=1),
        helper.make_node("ReduceMean", ["history"], ["b"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["b", "one"], ["c"]),
        helper.make_node("ReduceMean", ["image"], ["d"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["d", "one"], ["e"]),
        helper.make_node("MatMul", ["age", "w"], ["f"]),
        helper.make_node("Sum", ["a", "m", "c", "e", "f"], ["score"]),
    ]
    inputs = [
        ("codes", TensorProto.INT32, ["batch", length]),
        ("attention_mask", TensorProto.FLOAT, ["batch", length]),
        ("history", TensorProto.FLOAT, ["batch", length, 2]),
        ("image", TensorProto.FLOAT, ["batch", 2, 4, 3]),
        ("age", TensorProto.FLOAT, ["batch", 3]),
    ]
    return model_of(nodes, inputs, [("score", TensorProto.FLOAT, ["batch", 1])], constants, 13)


@pytest.mark.parametrize("length", [6, "steps"])
def test_lists_feed_inputs_of_their_rank(folder, length):
    random = np.random.default_rng(0)
    steps = random.integers(1, 7, 200)
    image = pa.array(random.normal(size=200 * 24))
    for size in (3, 4, 2):
        image = pa.FixedSizeListArray.from_arrays(image, size)
    columns = {
        "mcc": [random.integers(0, 9, n).tolist() for n in steps],
        "amount": [random.normal(size=n).tolist() for n in steps],
        "gap": [random.normal(size=n).tolist() for n in steps],
        "pixels": image,
        "age": random.integers(18, 90, 200),
        "income": random.normal(size=200),
        "limit": random.normal(size=200),
        "label": random.integers(0, 2, 200),
    }
    pq.write_table(pa.table(columns), "lists.parquet")
    (folder / "lists.onnx").write_bytes(model_bytes(sequences(length)))
    succeeded("init", "lists.onnx", "--data", "lists.parquet")
    inputs = load(folder / "config.yaml").experiment.data.inputs
    assert list(inputs) == ["codes", "history", "image", "age"]
    assert (inputs["codes"].dtype, inputs["codes"].mask) == ("int32", "attention_mask")
    assert inputs["codes"].mask_dtype == "float32"
    assert inputs["history"].columns == ["amount", "gap"]
    expected = 6 if length == 6 else None
    assert inputs["codes"].length == inputs["history"].length == expected
    assert (inputs["image"].kind, inputs["image"].columns) == ("tensor", ["pixels"])
    assert inputs["age"].columns == ["age", "income", "limit"]
    checks(folder / "lists.onnx", folder / "config.yaml")


def checks(model, config):
    """The written inputs are those that the model takes."""
    data = load(config).experiment.data
    source = open_source(data.source)
    encoder = fit(source, data, SilentProgress()).encoder
    check_inputs(read_model(model), data, encoder, model)
    sample = next(Dataset(source, data, fit(source, data, SilentProgress())).batches("training"))
    assert run(read_model(model), sample.inputs).shape == (len(sample), 1)
