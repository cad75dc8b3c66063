"""``train-qat`` from the command line: every method, teachers, tasks, several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import ROOT, qtool, succeeded
from support.project import make_project

from qtool.graph.model_file import model_bytes
from qtool.history import History

SMALL = ("--quiet", "--set", "train_qat.epochs=1")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


def train(project, name, *overrides, command="train-qat"):
    """Runs the QAT config in a run directory of its own; returns that."""
    settings = [word for override in overrides for word in ("--set", override)]
    directory = project / "runs" / name
    succeeded(command, project / "qat.yaml", "--run-dir", directory, *SMALL, *settings)
    return directory


def history(directory):
    file = directory / "train-qat" / "history.json"
    return History.from_json(file.read_text(), str(file))


@pytest.mark.parametrize(
    ("method", "equal"), [("static", 0.999), ("dynamic", 0.99), ("weight_only", 0.99)]
)
def test_every_method_is_trained_and_agrees_with_the_runtime(project, method, equal):
    samples = 500 if method == "static" else "null"
    directory = train(
        project,
        method,
        f"quantization={{method: {method}, samples: {samples}}}",
        "evaluation.gates={auc_change: 0.02, size_ratio: 5}",  # of so small a file
        command="run",
    )
    parity = json.loads((directory / "train-qat" / "parity.json").read_text())
    assert parity["equal_share"] >= equal
    assert parity["rows"] > 500
    record = history(directory)
    assert record.fp32_metric == pytest.approx(record.best.validation_metric, abs=0.02)


def test_weights_of_four_bits_are_recovered(project):
    directory = train(
        project,
        "four-bits",
        "quantization={method: weight_only, samples: null, bits: 4, block_size: 16}",
        "train_qat={epochs: 8, batch_size: 64, learning_rate: 0.002, distill: {weight: 1.0}}",
    )
    record = history(directory)
    assert record.best.epoch > 0
    # The cross-entropy with the teacher is smallest, its own entropy, at FP32.
    lost = [r.validation_loss - record.fp32_loss for r in (record.epochs[0], record.best)]
    assert lost[1] < 0.5 * lost[0]


def test_any_onnx_model_can_be_the_teacher(project):
    """The FP32 model in ONNX Runtime teaches what it teaches as a torch graph."""
    model = ir.load(project / "model.onnx")
    hidden = next(node for node in model.graph if node.op_type == "Relu").outputs[0].name
    file = f"teacher: {{onnx: {project / 'model.onnx'}}}"
    records = [
        history(train(project, name, f"train_qat.distill={{weight: 0.5, {options}}}"))
        for name, options in (("itself", "temperature: 1"), ("file", file))
    ]
    losses = [[epoch.validation_loss for epoch in record.epochs] for record in records]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    features = f"features: {{{hidden}: {hidden}}}, feature_weight: 5"
    with_features = history(train(project, "features", f"train_qat.distill={{{file}, {features}}}"))
    assert with_features.fp32_loss < with_features.epochs[0].validation_loss


def classifier():
    """A classifier as boosting libraries export it: labels first, then probabilities."""
    numbers = ir.TensorType(ir.DataType.FLOAT)
    x = ir.val("numeric", type=numbers, shape=ir.Shape(["batch", 6]))
    probabilities = ir.val("probabilities", type=numbers, shape=ir.Shape(["batch", 2]))
    label = ir.val("label", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch"]))
    weights = {"coefficients": [-1.0] * 6 + [1.0] * 6, "intercepts": [0.0, 0.0]}
    attributes = {"classlabels_ints": [0, 1], **weights}
    outputs = [label, probabilities]
    node = ir.node("LinearClassifier", [x], attributes, domain="ai.onnx.ml", outputs=outputs)
    imports = {"": 17, "ai.onnx.ml": 3}
    graph = ir.Graph([x], outputs, nodes=[node], opset_imports=imports, name="classifier")
    return ir.Model(graph, ir_version=8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train_qat.distill={teacher: {onnx: MODEL, output_name: score}}",
            "no output 'score'",
        ),
        ("train_qat.distill={teacher: {onnx: MODEL}, features: {a: b}}", "no value 'b'"),
        ("train_qat.distill={features: {a: b}}", "no value named 'a'"),
        ("train_qat.frozen=[Sinh]", "'Sinh' matches no node"),
        ("train_qat.frozen=[Gemm]", "which is quantized (static); expected nodes that stay"),
        ("train_qat.distill={teacher: {onnx: CLASSIFIER}}", "'label' of the teacher"),
        (
            "train_qat={keep: metric, warmup_steps: 5000, epochs: 1}",
            "warmup_steps: 5000 in a training of",
        ),
        (
            "train_qat={epochs: 1, loss: {name: huber}, distill: {weight: 0.5}}",
            "huber in the task binary_classification",
        ),
        ("train_qat.augment={noise: {amount: 1}}", "'amount' is no model input"),
        ("train_qat.device=cuda", "cuda, which this machine has not"),
    ],
)
def test_options_that_do_not_fit_are_refused(project, override, message):
    import torch

    if "cuda" in override and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    directory = project / "runs" / "refused"
    (project / "classifier.onnx").write_bytes(model_bytes(classifier()))
    for name in ("model.onnx", "classifier.onnx"):
        override = override.replace(name.partition(".")[0].upper(), str(project / name))
    done = qtool(
        "train-qat", project / "qat.yaml", "--run-dir", directory, *SMALL, "--set", override
    )
    assert done.code in (3, 4, 5), done.err
    assert message in done.err
    assert not (directory / "train-qat").exists()


def test_where_it_is_trained_and_logged_is_no_part_of_the_key(project):
    directory = train(project, "again")
    before = (directory / "train-qat" / "stage.json").read_text()
    train(project, "again", "train_qat.device=cpu")
    assert (directory / "train-qat" / "stage.json").read_text() == before


def test_an_operator_that_cannot_be_trained_can_stay_frozen(tmp_path):
    project = make_project(tmp_path)
    model = ir.load(project / "model.onnx")
    output = model.graph.outputs[0]
    flag = ir.node("Binarizer", [output], {"threshold": 0.0}, domain="ai.onnx.ml", name="flag")
    add = ir.node("Add", [output, flag.outputs[0]], name="both")
    for node, name in ((flag, "flagged"), (add, "sum")):
        node.outputs[0].name = name
        node.outputs[0].type, node.outputs[0].shape = output.type, output.shape
    model.graph.append(flag)
    model.graph.append(add)
    model.graph.outputs[0] = add.outputs[0]
    model.graph.opset_imports["ai.onnx.ml"] = 3
    (project / "model.onnx").write_bytes(model_bytes(model))
    arguments = ("train-qat", project / "qat.yaml", "--run-dir", project / "run", *SMALL)
    refused = qtool(*arguments)
    assert refused.code != 0
    assert "Binarizer" in refused.err
    assert "train_qat.frozen" in refused.err
    succeeded(*arguments, "--set", "train_qat.frozen=[Binarizer]")
    assert (
        json.loads((project / "run" / "train-qat" / "parity.json").read_text())["equal_share"]
        > 0.999
    )


NETWORK = """
import torch
from torch import nn

def build(inputs, outputs=3):
    width = inputs["x"]["shape"][0]
    return Body(width, outputs)

class Body(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 16), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, outputs)
        )

    def forward(self, x):
        return self.layers(x)

class Towers(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.left, self.right = nn.Linear(width, 8), nn.Linear(width, 8)

    def forward(self, x):
        return {"left": self.left(x), "right": self.right(x)}

def towers(inputs):
    return Towers(inputs["x"]["shape"][0])
"""
TASKS = {
    "multiclass_classification": (
        "kind",
        "model={torch: 'networks:build'}",
        "training={epochs: 3, batch_size: 64, loss: {name: focal}}",
    ),
    "regression": (
        "[amount, delay]",
        "model={torch: 'networks:build', arguments: {outputs: 6}}",
        "training={epochs: 3, batch_size: 64, learning_rate: 0.01, "
        "loss: {name: quantile, quantiles: [0.1, 0.5, 0.9]}}",
    ),
    "representation": (
        "null",
        "model={torch: 'networks:towers'}",
        "training={epochs: 3, batch_size: 64}",
    ),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with a torch module, rows with labels of every kind, and a config."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "src").mkdir()
    (folder / "src" / "networks.py").write_text(NETWORK)
    x = np.random.default_rng(0).standard_normal((900, 4)).astype(np.float32)
    kinds = np.array(["early", "late", "never"])[(x[:, 0] > 0).astype(int) + (x[:, 1] > 1)]
    columns = {f"x{i}": x[:, i] for i in range(4)}
    labels = {"kind": kinds, "amount": x[:, 0] + x[:, 2], "delay": 2 * x[:, 1]}
    pq.write_table(pa.table({**columns, **labels}), folder / "rows.parquet")
    (folder / "config.yaml").write_text(
        "name: tasks\n"
        "model: {torch: 'networks:build'}\n"
        "data:\n"
        "  source: rows.parquet\n"
        "  inputs: {x: {columns: [x0, x1, x2, x3]}}\n"
        "quantization: {method: static, samples: 300}\n"
        "train_qat: {epochs: 2, batch_size: 64, distill: {weight: 0.5}}\n"
    )
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_train_in_fp32_and_quantized(tasks, task):
    label, model, training = TASKS[task]
    directory = tasks / "runs" / task
    overrides = (f"task={task}", f"data.label={label}", model, training)
    settings = [word for override in overrides for word in ("--set", override)]
    path = ("--pythonpath", tasks / "src")
    succeeded(
        "train-qat", tasks / "config.yaml", "--run-dir", directory, "--quiet", *path, *settings
    )
    fp32 = directory / "fp32" / "history.json"
    record = History.from_json(fp32.read_text(), str(fp32))
    assert record.best.validation_loss < 0.95 * record.epochs[0].validation_loss
    assert history(directory).best.validation_loss <= history(directory).epochs[0].validation_loss
    assert json.loads((directory / "train-qat" / "parity.json").read_text())["equal_share"] > 0.999


def test_the_loss_of_training_is_part_of_the_key_when_qat_has_none(tasks):
    directory, path = tasks / "runs" / "loaded", ("--pythonpath", tasks / "src")
    options = ("--run-dir", directory, "--quiet", *path)
    arguments = (tasks / "config.yaml", *options, "--set", "task=multiclass_classification")
    label = ("--set", "data.label=kind", "--set", "train_qat.epochs=1")
    succeeded("train-qat", *arguments, *label, "--set", "training.epochs=1")
    weights = tasks / "weights.pt"
    shutil.copy(directory / "fp32" / "weights.pt", weights)
    keys = []
    for loss in ("focal", "cross_entropy"):
        loaded = ("--set", f"model.checkpoint={weights}", "--set", f"training.loss.name={loss}")
        succeeded("train-qat", *arguments, *label, *loaded)
        keys.append(json.loads((directory / "train-qat" / "stage.json").read_text())["key"])
    assert keys[0] != keys[1]


def together(project, directory, *arguments):
    """Runs a command in two processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "qtool", *map(str, arguments), "--run-dir", directory],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_two_processes_train_what_one_trains(project, tmp_path):
    alone = train(project, "alone")
    done = together(project, tmp_path / "run", "train-qat", project / "qat.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "run" / "train-qat")
    assert done.stderr.count("train QAT: epoch 1") == 1
    one, two = history(alone), history(tmp_path / "run")
    assert two.best.validation_loss == pytest.approx(one.best.validation_loss, rel=1e-4)
    assert not Path(tmp_path / "run" / ".partial").exists() or not list(
        (tmp_path / "run" / ".partial").iterdir()
    )
    # What two processes trained is current for one.
    succeeded("evaluate", project / "qat.yaml", "--run-dir", tmp_path / "run", "--quiet")


def test_an_error_of_the_first_process_ends_all(project, tmp_path):
    override = ("--set", "train_qat.frozen=[Sinh]")
    done = together(project, tmp_path / "run", "train-qat", project / "qat.yaml", *override)
    assert done.returncode != 0
    assert "'Sinh' matches no node" in done.stderr


def test_commands_that_do_not_train_are_refused(project, tmp_path):
    done = together(project, tmp_path / "run", "calibrate", project / "qat.yaml")
    assert done.returncode != 0
    assert "expected train-qat or run" in done.stderr
