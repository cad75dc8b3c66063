"""All that a user can get wrong: one clear error, its exit code, and nothing half-written."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import pickle
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper
from support.cli import qtool, started, succeeded
from support.graphs import fraud_like, mlp, model_of
from support.project import tree

from qtool.graph.model_file import model_bytes
from qtool.runs import locked, sha256_of

CONFIG, MODEL, DATA, STALE, IO, INTERRUPTED = 3, 4, 5, 6, 74, 130

Edit = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is wrong, as a change of the project or an override, and what must be said."""

    code: int
    says: tuple[str, ...]
    edit: Edit = lambda project: None
    overrides: tuple[str, ...] = ()
    command: str = "run"
    config: str = "static.yaml"


def rows(change: Callable[[pa.Table], pa.Table]) -> Edit:
    def edit(project: Path) -> None:
        file = project / "rows.parquet"
        pq.write_table(change(pq.read_table(file)), file)

    return edit


def value(column: str, row: int, new: float) -> Edit:
    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_numpy().copy()
        values[row] = new
        return replaced(table, column, pa.array(values))

    return rows(change)


def replaced(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)


def words(table: pa.Table) -> pa.Table:
    texts = [str(number) for number in table["n3"].to_pylist()]
    texts[41] = "about 3"
    return replaced(table, "n3", pa.array(texts))


def labels(new: Callable[[np.ndarray], np.ndarray]) -> Edit:
    return rows(lambda table: replaced(table, "bad", pa.array(new(table["bad"].to_numpy().copy()))))


def model(data: bytes) -> Edit:
    return lambda project: (project / "model.onnx").write_bytes(data)


def truncated(project: Path) -> None:
    file = project / "model.onnx"
    file.write_bytes(file.read_bytes()[:-700])


def two_inputs(nodes, numeric="numeric", batch="batch", width=6, constants=None, outputs=None):
    return model_bytes(
        model_of(
            nodes,
            [
                (numeric, TensorProto.FLOAT, [batch, width]),
                ("codes", TensorProto.INT64, [batch, 2]),
            ],
            [("output", TensorProto.FLOAT, outputs or [batch, 1])],
            {"w": np.ones((width, 1), np.float32)} if constants is None else constants,
        )
    )


def linear(numeric="numeric", **settings) -> bytes:
    return two_inputs([helper.make_node("MatMul", [numeric, "w"], ["output"])], numeric, **settings)


def not_a_number() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["numeric", "w"], ["sum"]),
        helper.make_node("Sqrt", ["sum"], ["output"]),
    ]
    return two_inputs(nodes)


def three_scores() -> bytes:
    node = helper.make_node("MatMul", ["numeric", "w"], ["output"])
    constants = {"w": np.ones((6, 3), np.float32)}
    return two_inputs([node], constants=constants, outputs=["batch", 3])


def infinite_inside() -> bytes:
    """Scores are finite, but one activation that calibration looks at is not."""
    nodes = [
        helper.make_node("MatMul", ["numeric", "w"], ["sum"]),
        helper.make_node("Exp", ["sum"], ["big"]),
        helper.make_node("MatMul", ["big", "one"], ["product"]),
        helper.make_node("Tanh", ["product"], ["output"]),
    ]
    constants = {
        "w": np.full((6, 2), 40, np.float32),
        "one": np.ones((2, 1), np.float32),
    }
    return two_inputs(nodes, constants=constants)


def unknown_to_torch() -> bytes:
    nodes = [
        helper.make_node("MatMul", ["numeric", "w"], ["sum"]),
        helper.make_node("Reshape", ["sum", "square"], ["matrices"]),
        helper.make_node("Det", ["matrices"], ["curve"]),
        helper.make_node("Unsqueeze", ["curve", "last"], ["column"]),
        helper.make_node("Tanh", ["column"], ["output"]),
    ]
    constants = {"square": np.array([-1, 1, 1]), "last": np.array([1])}
    return two_inputs(nodes, constants={"w": np.ones((6, 1), np.float32), **constants})


def in_doubles() -> bytes:
    nodes = [
        helper.make_node("Cast", ["numeric"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["wide", "w"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["output"], to=TensorProto.FLOAT),
    ]
    return two_inputs(nodes, constants={"w": np.ones((6, 1))})


def small_table() -> bytes:
    """The data has ten countries with the unseen one; this embedding knows eight."""
    graph = onnx.load_from_string(model_bytes(fraud_like(hidden=16)))
    table = next(item for item in graph.graph.initializer if item.name == "table.0.weight")
    kept = onnx.numpy_helper.to_array(table)[:8]
    table.CopyFrom(onnx.numpy_helper.from_array(kept, table.name))
    return graph.SerializeToString()


def scorer(text: str) -> Edit:
    """A torch model in a module of its own."""

    def edit(project: Path) -> None:
        (project / f"scorer_{project.parent.name}.py").write_text(text, encoding="utf-8")

    return edit


def torch_model(function: str = "build", checkpoint: str = "null") -> Edit:
    def edit(project: Path) -> None:
        name = f"scorer_{project.parent.name}"
        config = (project / "static.yaml").read_text(encoding="utf-8")
        section = f"{{torch: '{name}:{function}', pythonpath: ., checkpoint: {checkpoint}}}"
        config = config.replace("{onnx: model.onnx}", section)
        (project / "static.yaml").write_text(config, encoding="utf-8")

    return edit


def both(*edits: Edit) -> Edit:
    return lambda project: [edit(project) for edit in edits]


NETWORK = """\
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 1)

    def forward(self, numeric, codes):
        return self.layer(numeric)

def build():
    return Net()
"""


BRANCH = NETWORK.replace(
    "return self.layer(numeric)",
    "score = self.layer(numeric)\n        return score if score.sum() > 0 else -score",
)


class Harmful:
    """What a pickle runs when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


def pickled(project: Path) -> None:
    (project / "weights.pt").write_bytes(pickle.dumps({"layer.weight": Harmful()}))


def other_weights(project: Path) -> None:
    torch.save({"layer.weight": torch.zeros(1, 5)}, project / "weights.pt")


CASES = {
    "unknown key": Case(
        CONFIG, ("unknown key 'lable'", "Did you mean 'label'?"), overrides=("data.lable=bad",)
    ),
    "misspelt value": Case(
        CONFIG, ("'sttic'", "Did you mean 'static'?"), overrides=("quantization.method=sttic",)
    ),
    "value out of range": Case(
        CONFIG, ("target.threads: 0; expected greater than 0",), overrides=("target.threads=0",)
    ),
    "no config": Case(CONFIG, ("none.yaml: no such file", "qtool init"), config="none.yaml"),
    "config is a directory": Case(
        CONFIG, ("cannot be read",), lambda project: (project / "d.yaml").mkdir(), config="d.yaml"
    ),
    "layer rule": Case(
        CONFIG,
        ("'haed*' matches no node", "body.0 (dense), body.1 (dense)"),
        overrides=("quantization.layers=[{match: 'haed*', method: float}]",),
    ),
    "rule that its layer cannot follow": Case(
        CONFIG,
        ("asks for dynamic, but for", "a lookup computes nothing", "expected one of storage"),
        overrides=("quantization.layers=[{match: Gather, method: dynamic}]",),
    ),
    "rule on a node without weights": Case(
        CONFIG,
        ("'Relu' matches no layer that can be dynamic, only Relu",),
        overrides=("quantization.layers=[{match: Relu, method: dynamic}]",),
    ),
    "static layer without calibration": Case(
        CONFIG,
        ("a layer is to be static under the method dynamic", "Set quantization.method to static"),
        config="dynamic.yaml",
        overrides=("quantization.layers=[{match: Gemm, method: static}]",),
    ),
    "no train_qat section": Case(CONFIG, ("train_qat: no such section",), command="train-qat"),
    "dynamic needs no ranges": Case(
        CONFIG,
        ("dynamic, which needs no ranges from calibration", "Use 'qtool quantize' directly"),
        command="calibrate",
        config="dynamic.yaml",
    ),
    "override without a value": Case(2, ("--set seed: not an override",), overrides=("seed",)),
    "missing columns": Case(
        DATA,
        ("no column 'n3', 'countri' (did you mean 'country'?)", "columns of the data: id,"),
        rows(lambda table: table.drop_columns("n3")),
        overrides=("data.inputs.codes.columns=[countri, mcc]",),
    ),
    "missing label": Case(DATA, ("no column 'good'",), overrides=("data.label=good",)),
    "label among the inputs": Case(
        DATA,
        ("the label 'bad' is a column of input",),
        overrides=("data.inputs.numeric.columns=[bad]",),
    ),
    "NaN": Case(
        DATA,
        ("column 'n3', row 17", "a missing value", "Set missing:"),
        value("n3", 17, np.nan),
        overrides=("data.inputs.numeric.missing=error", "data.inputs.numeric.columns=[n3]"),
    ),
    "infinity": Case(DATA, ("column 'n4', row 2999", "inf"), value("n4", 2999, np.inf)),
    "text among numbers": Case(DATA, ("column 'n3', row 41", "'about 3'"), rows(words)),
    "a label of two": Case(
        DATA,
        ("column 'bad', row 5", "0 or 1"),
        labels(lambda old: np.where(np.arange(3000) == 5, 2, old)),
    ),
    "one class": Case(DATA, ("split: only rows with label 0",), labels(lambda old: old * 0)),
    "empty split": Case(
        DATA, ("calibration split: no rows",), overrides=("data.split.calibration=1e-9",)
    ),
    "no rows": Case(DATA, ("no rows",), rows(lambda table: table.slice(0, 0))),
    "no data": Case(
        DATA, ("rows.parquet: no such file",), lambda project: (project / "rows.parquet").unlink()
    ),
    "glob": Case(
        DATA, ("part-*.parquet: matches no file",), overrides=("data.source=part-*.parquet",)
    ),
    "damaged data": Case(
        DATA,
        ("rows.parquet: cannot be read",),
        lambda project: os.truncate(project / "rows.parquet", 5000),
    ),
    "data of another format": Case(
        DATA, ("extension .onnx", ".parquet, .csv, .npz"), overrides=("data.source=model.onnx",)
    ),
    "encoder of other columns": Case(
        STALE,
        ("encoder.json", "columns ['n0'"),
        overrides=("data.encoder=RUN/data/encoder.json", "data.inputs.numeric.columns=[n1]"),
    ),
    "no model": Case(
        MODEL, ("model.onnx: no such file",), lambda project: (project / "model.onnx").unlink()
    ),
    "truncated model": Case(MODEL, ("not a valid ONNX model",), truncated),
    "not a model": Case(MODEL, ("not a valid ONNX model",), model(b"PK\x03\x04 not protobuf")),
    "empty model": Case(MODEL, ("not a valid ONNX model",), model(b"")),
    "opset 10": Case(
        MODEL, ("ai.onnx opset 10; expected 11 to 23",), model(model_bytes(mlp(opset=10)))
    ),
    "opset 24": Case(
        MODEL, ("ai.onnx opset 24; expected 11 to 23",), model(model_bytes(mlp(opset=24)))
    ),
    "other inputs": Case(
        MODEL, ("'codes', 'x' in the model", "'codes', 'numeric'"), model(linear("x"))
    ),
    "other width": Case(
        MODEL, ("input 'numeric'", "(batch, 6)", "in its order"), model(linear(width=7))
    ),
    "other dtype": Case(
        MODEL,
        ("input 'codes': dtype int64; expected float32", "Set its kind"),
        overrides=("data.inputs.codes={kind: numeric, columns: [mcc, n0], missing: zero}",),
    ),
    "fixed batch": Case(MODEL, ("a fixed batch of 1",), model(linear(batch=1))),
    "NaN scores": Case(MODEL, ("the output contains NaN",), model(not_a_number())),
    "three scores": Case(MODEL, ("output of shape (", ", 3)"), model(three_scores())),
    "logits called probabilities": Case(
        MODEL, ("Set model.output: logit",), overrides=("model.output=probability",)
    ),
    "code beyond its table": Case(
        MODEL, ("cannot run on this data", "out of data bounds"), model(small_table())
    ),
    "infinite activation": Case(
        DATA,
        ("calibration, tensor 'big', batch 0, row ", "NaN or infinity"),
        model(infinite_inside()),
    ),
    "operator unknown to QAT": Case(
        MODEL, ("Det", "train_qat.frozen"), model(unknown_to_torch()), config="qat.yaml"
    ),
    "nothing in float32": Case(MODEL, ("nothing to quantize",), model(in_doubles())),
    "all layers ruled out": Case(
        MODEL,
        ("nothing to quantize", "quantization.layers"),
        overrides=("quantization.layers=[{match: '*', method: float}]",),
    ),
    "no torch module": Case(MODEL, ("no module named 'scorer_",), torch_model()),
    "no such function": Case(
        MODEL,
        ("has no 'biuld'", "Did you mean 'build'?"),
        both(scorer(NETWORK), torch_model("biuld")),
    ),
    "torch code raises": Case(
        MODEL,
        (".py:2 raised ZeroDivisionError: division by zero",),
        both(scorer("def build():\n    return 1 / 0\n"), torch_model()),
    ),
    "not a torch module": Case(
        MODEL, ("returned a int",), both(scorer("def build():\n    return 1\n"), torch_model())
    ),
    "torch code exits": Case(
        MODEL,
        (".py:1 raised SystemExit: 3",),
        both(scorer("raise SystemExit(3)\n"), torch_model()),
    ),
    "forward raises": Case(
        MODEL,
        (".py:9 raised RuntimeError: mat1 and mat2", "Correct forward"),
        both(scorer(NETWORK.replace("layer(numeric)", "layer(codes)")), torch_model()),
    ),
    "forward returns no tensors": Case(
        MODEL,
        ("forward returns a tuple; expected a tensor, a tuple of tensors",),
        both(scorer(NETWORK.replace("layer(numeric)", "layer(numeric), 'logit'")), torch_model()),
    ),
    "forward takes other inputs": Case(
        MODEL,
        ("forward takes (features, codes), the data gives (numeric, codes)",),
        both(scorer(NETWORK.replace("numeric", "features")), torch_model()),
    ),
    "forward branches on values": Case(
        MODEL,
        ("cannot be exported to ONNX", "without branches on values"),
        both(scorer(BRANCH), torch_model()),
        overrides=("training={epochs: 1, checkpoint_steps: 1000000}",),
    ),
    "unknown argument": Case(
        MODEL,
        ("unexpected keyword argument 'depth'", "Check model.arguments"),
        both(scorer(NETWORK), torch_model()),
        overrides=("model.arguments={depth: 3}",),
    ),
    "pickled checkpoint": Case(
        MODEL,
        ("weights.pt", "could run code"),
        both(scorer(NETWORK), torch_model(checkpoint="weights.pt"), pickled),
    ),
    "checkpoint of another module": Case(
        MODEL,
        ("missing: layer.bias", "layer.weight is (1, 5), not (1, 6)"),
        both(scorer(NETWORK), torch_model(checkpoint="weights.pt"), other_weights),
    ),
    "no checkpoint": Case(
        MODEL,
        ("weights.pt: no such file",),
        both(scorer(NETWORK), torch_model(checkpoint="weights.pt")),
    ),
}


@pytest.fixture(scope="module")
def finished(project, tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished") / "run"
    succeeded("run", project / "static.yaml", "--run-dir", directory)
    return directory


@pytest.fixture
def here(project, tmp_path):
    """A copy of the project."""
    return shutil.copytree(project, tmp_path / "project")


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of a finished run: what went well before must survive."""
    return shutil.copytree(finished, tmp_path / "run")


def check_error(done, code, *says):
    assert done.code == code, done.err
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("error: ") == 1
    assert done.err.endswith("\n")
    assert "Traceback" not in done.err
    for text in says:
        assert text in done.err


def check_nothing_half_written(run_dir, stages, leftovers=()):
    """Every stage is there as a whole, and nothing is beside them."""
    present = {folder.name for folder in run_dir.iterdir() if not folder.name.startswith(".")}
    assert present <= stages
    for stage in present:
        outputs = json.loads((run_dir / stage / "stage.json").read_text())["outputs"]
        files = {file.name: file for file in (run_dir / stage).iterdir()}
        del files["stage.json"]
        assert {name: sha256_of(file) for name, file in files.items()} == outputs
    partial = run_dir / ".partial"
    assert [folder.name for folder in partial.glob("*")] == list(leftovers)
    return present


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name, here, run_dir, finished, monkeypatch):
    case = CASES[name]
    monkeypatch.chdir(here)
    case.edit(here)
    overrides = [text.replace("RUN", str(run_dir)) for text in case.overrides]
    settings = [part for text in overrides for part in ("--set", text)]
    done = qtool(case.command, here / case.config, "--run-dir", run_dir, "--quiet", *settings)
    check_error(done, case.code, *case.says)
    stages = {folder.name for folder in finished.iterdir()}
    assert check_nothing_half_written(run_dir, stages) >= {"evaluate", "bundle"}
    for stage in ("evaluate", "bundle"):
        assert tree(run_dir / stage) == tree(finished / stage)
    assert not (here / "owned").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Usage: qtool"),
        (("rnu",), "No such command 'rnu'"),
        (("run",), "Missing argument 'CONFIG'"),
        (("run", "c.yaml", "--ste", "a=b"), "No such option: --ste"),
        (("init", "m.onnx"), "Missing option '--data'"),
    ],
)
def test_usage(arguments, says):
    done = qtool(*arguments)
    assert done.code == 2
    assert says in done.out + done.err
    assert "Traceback" not in done.err


def test_all_config_errors_at_once(here):
    text = (here / "static.yaml").read_text()
    for right, wrong in (("label:", "lable:"), ("source:", "suorce:"), ("samples", "smples")):
        text = text.replace(right, wrong)
    (here / "static.yaml").write_text(text)
    done = qtool("run", here / "static.yaml", "--run-dir", here / "run")
    check_error(done, CONFIG, "unknown key 'lable'", "data.source: missing", "unknown key 'smples'")
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("rows.parquet", DATA, "no permission to read"),
        ("model.onnx", MODEL, "cannot be read (Permission denied)"),
        ("static.yaml", CONFIG, "cannot be read ([Errno 13] Permission denied"),
    ],
)
def test_files_that_may_not_be_read(here, monkeypatch, name, code, says):
    """Opening is refused as it would be for another user; root may read everything."""
    forbid(monkeypatch, here / name)
    done = qtool("run", here / "static.yaml", "--run-dir", here / "run", "--quiet")
    check_error(done, code, str(here / name), says)


def test_a_directory_that_may_not_be_read(here, monkeypatch):
    (here / "parts").mkdir()

    def refuse(path, *arguments, **settings):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    overrides = ("--set", f"data.source={here / 'parts'}")
    done = qtool("run", here / "static.yaml", "--run-dir", here / "run", "--quiet", *overrides)
    monkeypatch.undo()
    check_error(done, DATA, "parts", "no permission to read")


def forbid(monkeypatch, file):
    real = io.open

    def refuse(path, *arguments, **settings):
        if isinstance(path, str | Path) and Path(path) == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **settings)

    monkeypatch.setattr(builtins, "open", refuse)
    monkeypatch.setattr(io, "open", refuse)


@pytest.mark.parametrize("limit", [100, 1_000, 5_000, 60_000])
@pytest.mark.parametrize("config", ["static.yaml", "qat.yaml"])
def test_no_room_to_write(here, tmp_path, limit, config):
    """The system refuses to let a file grow beyond ``limit`` bytes, as it would on a full disk."""
    run_dir = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        done = qtool("run", here / config, "--run-dir", run_dir, "--quiet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check_error(done, IO, "File too large")
    checkpoints = run_dir.glob(".partial/train-qat-*/checkpoint.pt")
    stages = {"data", "fp32", "prepared", "calibrate", "quantize", "train-qat"}
    check_nothing_half_written(run_dir, stages, [file.parent.name for file in checkpoints])
    succeeded("run", here / config, "--run-dir", run_dir, "--quiet")


def test_disk_full(here, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = qtool("run", here / "static.yaml", "--run-dir", tmp_path / "run", "--quiet")
    check_error(done, IO, "No space left on device", "Free space")
    assert check_nothing_half_written(tmp_path / "run", set()) == set()


def test_the_run_directory_is_a_file(here):
    done = qtool("run", here / "static.yaml", "--run-dir", here / "model.onnx", "--quiet")
    check_error(done, IO, "model.onnx", "File exists")


def test_the_run_directory_is_in_use(here, run_dir):
    before = tree(run_dir)
    with locked(run_dir):
        done = qtool("run", here / "static.yaml", "--run-dir", run_dir, "--quiet")
    check_error(done, 2, "another qtool is working here", "another --run-dir")
    assert tree(run_dir) == before


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("quantize/model.int8.onnx", lambda file: file.write_bytes(file.read_bytes() + b"\0")),
        ("calibrate/ranges.json", lambda file: file.write_text(file.read_text().replace("1", "2"))),
        ("evaluate/report.html", Path.unlink),
        ("data/stage.json", lambda file: file.write_text("{")),
    ],
)
def test_artifacts_changed_by_hand(here, run_dir, file, damage):
    damage(run_dir / file)
    before = tree(run_dir)
    done = qtool("run", here / "static.yaml", "--run-dir", run_dir, "--quiet")
    check_error(done, STALE, str(run_dir / file), "--force")
    assert tree(run_dir) == before


def test_ctrl_c(here, tmp_path):
    config = here / "qat.yaml"
    overrides = ("--set", "train_qat.epochs=100000", "--set", "train_qat.checkpoint_steps=5")
    with started("run", config, "--run-dir", "run", *overrides, cwd=here) as process:
        while not list(here.glob("run/.partial/train-qat-*/checkpoint.pt")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted: what was finished is kept")
    leftover = [folder.name for folder in (here / "run" / ".partial").iterdir()]
    assert len(leftover) == 1
    check_nothing_half_written(here / "run", {"data", "fp32", "prepared", "calibrate"}, leftover)
