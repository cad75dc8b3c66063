"""Pruning from the command line: a stage of its own, what is compared, what is reported."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.cli import qtool, succeeded
from support.project import make_project, tree

from qtool.graph.model_file import constant, read_model
from qtool.runtime.sessions import Session

PRUNING = "pruning={keep: 0.5, multiple: 4, rows: 640, fine_tune: {epochs: 2, batch_size: 128}}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("pruned"))


def arguments(project, name, *overrides, config="static.yaml", command="run"):
    overrides = ("evaluation.gates=null", *overrides)  # so small a network needs all its units
    settings = [word for override in overrides for word in ("--set", override)]
    directory = project / "runs" / name
    return command, project / config, "--run-dir", directory, "--quiet", *settings


@pytest.fixture(scope="module")
def pruned(project):
    succeeded(*arguments(project, "pruned", PRUNING))
    return project / "runs" / "pruned"


def widths(model):
    """Outputs of every dense layer."""
    return [constant(n.inputs[1]).shape[1] for n in model.graph if n.op_type == "Gemm"]


def test_layers_are_narrower_and_the_rest_is_as_it_was(project, pruned):
    assert widths(read_model(pruned / "pruned" / "unpruned.onnx")) == [16, 16, 1]
    assert widths(read_model(pruned / "pruned" / "model.onnx")) == [8, 8, 1]
    assert widths(read_model(pruned / "prepared" / "model.onnx")) == [8, 8, 1]
    history = json.loads((pruned / "pruned" / "history.json").read_text())
    assert len(history["epochs"]) == 3
    assert not (pruned / "pruned" / "untrained.onnx").exists()
    generator = np.random.default_rng(0)
    rows = {"numeric": generator.standard_normal((5, 6)).astype(np.float32)}
    rows["codes"] = generator.integers(0, 7, (5, 2))
    found = [
        Session(file, "").run(rows)["output"]
        for file in (project / "model.onnx", pruned / "pruned" / "unpruned.onnx")
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_int8_is_compared_with_the_unpruned_model(project, pruned):
    result = json.loads((pruned / "evaluate" / "evaluation.json").read_text())
    assert [one["title"] for one in result["ancestors"]] == ["FP32", "FP32, pruned", "INT8"]
    fp32, narrower, int8 = (one["metrics"]["auc"] for one in result["ancestors"])
    assert fp32 == pytest.approx(result["metrics"]["auc"]["fp32"])
    assert int8 == pytest.approx(narrower, abs=0.01)
    assert fp32 != pytest.approx(narrower, abs=1e-6)
    assert result["sizes_bytes"]["fp32"] == (project / "model.onnx").stat().st_size
    layers = {one["layer"]: (one["before"], one["after"]) for one in result["pruning"]}
    assert sorted(layers.values()) == [(1, 1), (16, 8), (16, 8)]
    report = (pruned / "evaluate" / "report.md").read_text()
    assert "### Pruning" in report
    assert "### From FP32 to INT8" in report


def test_the_same_run_gives_the_same_bytes_and_is_skipped(project, pruned):
    files = tree(pruned / "pruned")
    succeeded(*arguments(project, "again", PRUNING, command="quantize"))
    assert tree(project / "runs" / "again" / "pruned") == files
    done = qtool(*(a for a in arguments(project, "pruned", PRUNING) if a != "--quiet"))
    assert "pruned: current" in done.err


def test_the_section_is_part_of_the_key(project, pruned):
    before = json.loads((pruned / "pruned" / "stage.json").read_text())["key"]
    other = PRUNING.replace("keep: 0.5", "keep: 0.25")
    succeeded(*arguments(project, "other", other, command="quantize"))
    after = project / "runs" / "other" / "pruned"
    assert json.loads((after / "stage.json").read_text())["key"] != before
    assert widths(read_model(after / "model.onnx")) == [4, 4, 1]


@pytest.mark.parametrize("config", ["qat.yaml", "dynamic.yaml"])
def test_other_methods_go_on_from_the_narrower_graph(project, config):
    overrides = (PRUNING, "pruning.criterion=contribution")
    succeeded(*arguments(project, config, *overrides, config=config))
    folder = "train-qat" if config == "qat.yaml" else "quantize"
    plan = json.loads((project / "runs" / config / folder / "plan.json").read_text())
    assert plan


def test_it_learns_from_the_unpruned_model(project):
    distilled = PRUNING.replace("epochs: 2", "epochs: 2, distill: {weight: 1.0}")
    succeeded(*arguments(project, "distilled", distilled, command="quantize"))
    history = project / "runs" / "distilled" / "pruned" / "history.json"
    record = json.loads(history.read_text())
    losses = [epoch["validation_loss"] for epoch in record["epochs"]]
    # The cross-entropy with the teacher is smallest, its own entropy, at the unpruned model.
    assert record["fp32_loss"] < min(losses) < losses[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pruning.layers=[{match: 'zzz*', keep: 0.5}]", "'zzz*' matches no node"),
        ("pruning.layers=[{match: '*head*', keep: 0.5}]", "matches no layer that can be made"),
        ("pruning.kept=1", "kept"),
    ],
)
def test_sections_that_do_not_fit_are_refused(project, override, message):
    done = qtool(*arguments(project, "refused", PRUNING, override, command="quantize"))
    assert done.code == 3, done.err
    assert message in done.err
