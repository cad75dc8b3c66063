"""Inputs that are made to do harm, and places where a user's own files could be lost."""

from __future__ import annotations

import random
import shutil

import onnx
import pytest
from support.cli import qtool, succeeded
from support.project import tree

EXPECTED = (1, 2, 3, 4, 5, 6, 74)


@pytest.fixture
def here(project, tmp_path):
    return shutil.copytree(project, tmp_path / "project")


def check_refused(done, code, *says):
    assert (done.code, done.out) == (code, ""), done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    for text in says:
        assert text in done.err


@pytest.mark.parametrize("stage", ["data", "quantize", "evaluate", "bundle"])
def test_a_folder_that_qtool_did_not_make_survives(here, stage):
    """A project with its rows in data/, worked on with --run-dir in the project itself."""
    (here / stage).mkdir()
    (here / stage / "precious.parquet").write_bytes(b"years of work")
    done = qtool("run", here / "static.yaml", "--run-dir", here, "--quiet", "--force")
    check_refused(done, 2, str(here / stage), "not a stage of qtool", "another --run-dir")
    assert (here / stage / "precious.parquet").read_bytes() == b"years of work"


def test_a_bundle_that_qtool_did_not_make_survives_a_failed_gate(here):
    (here / "bundle").mkdir()
    arguments = ("--run-dir", here, "--quiet", "--set", "evaluation.gates.size_ratio=0.01")
    check_refused(qtool("run", here / "static.yaml", *arguments), 2, "bundle: not a stage of qtool")
    assert (here / "bundle").is_dir()


def test_force_makes_again_what_was_changed_by_hand(here):
    run = here / "run"
    succeeded("quantize", here / "static.yaml", "--run-dir", run, "--quiet")
    before = tree(run)
    for name in ("data/encoder.json", "prepared/model.onnx", "quantize/plan.json"):
        (run / name).write_text("changed")
    done = qtool("quantize", here / "static.yaml", "--run-dir", run, "--quiet")
    check_refused(done, 6, "data/encoder.json", "changed after it was made", "--force")
    succeeded("quantize", here / "static.yaml", "--run-dir", run, "--force")
    assert tree(run) == before


@pytest.mark.parametrize("encoder", ["none.json", ".", "model.onnx"])
def test_an_encoder_that_cannot_be_used_is_not_passed_over(here, encoder):
    """Also when the stage that was made without it is current."""
    run = here / "run"
    succeeded("calibrate", here / "static.yaml", "--run-dir", run, "--quiet")
    before = tree(run)
    arguments = ("--run-dir", run, "--quiet", "--set", f"data.encoder={here / encoder}")
    done = qtool("calibrate", here / "static.yaml", *arguments)
    check_refused(done, 5, str(here / encoder))
    assert tree(run) == before


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "more than 100000 values"),
        ("name: &a [*a]\n", "in themselves"),
        ("name: " + "[" * 5000, "nested without end"),
        ("name: !!python/object/apply:os.system [id]\n", "config.yaml:1"),
    ],
    ids=["aliases of aliases", "an alias in itself", "brackets", "an object"],
)
def test_yaml(here, text, says):
    (here / "config.yaml").write_text(text, encoding="utf-8")
    check_refused(qtool("run", here / "config.yaml", "--run-dir", here / "run"), 3, says)
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    "override",
    [
        "seed=99999999999999999999999",
        "target.batch_sizes=[0]",
        "data.source=~no_such_user_here/rows.parquet",
        "model=3",
        "data.inputs=[]",
        "name=../../elsewhere",
    ],
)
def test_values(here, override):
    arguments = ("--run-dir", here / "run", "--set", override)
    check_refused(qtool("run", here / "static.yaml", *arguments), 3, override.partition("=")[0])
    assert not (here / "run").exists()


def test_external_data_stays_below_the_model(here):
    secret = here.parent / "secret"
    secret.write_bytes(bytes(10_000))
    proto = onnx.load(here / "model.onnx")
    tensor = next(one for one in proto.graph.initializer if one.name == "body.0.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (here / "model.onnx").write_bytes(proto.SerializeToString())
    arguments = ("--run-dir", here / "run", "--quiet")
    check_refused(qtool("calibrate", here / "static.yaml", *arguments), 4, "not a valid ONNX model")


@pytest.mark.parametrize("seed", range(10, 20))
@pytest.mark.parametrize("file", ["model.onnx", "rows.parquet"])
def test_damaged_files_are_refused_or_harmless(here, file, seed):
    generator = random.Random(seed)
    data = bytearray((here / file).read_bytes())
    for _ in range(generator.choice([1, 4, 40])):
        data[generator.randrange(len(data))] = generator.randrange(256)
    (here / file).write_bytes(data)
    done = qtool("quantize", here / "static.yaml", "--run-dir", here / "run", "--quiet")
    if done.code:
        assert done.code in EXPECTED, done.err
        check_refused(done, done.code)
