from __future__ import annotations

import json
import shutil

import pytest
from support.cli import qtool, succeeded

from qtool.runtime import profile as profiles


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(profiles, "ROUNDS", 2)
    monkeypatch.setattr(profiles, "BLOCK_MS", 0.5)


@pytest.fixture(scope="module")
def made(project, tmp_path_factory):
    """A run directory with an analysis, and what was printed."""
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "ROUNDS", 2)
        patch.setattr(profiles, "BLOCK_MS", 0.5)
        done = succeeded("analyze", project / "static.yaml", "--run-dir", directory, "--quiet")
    return directory, done


def analysis_in(directory):
    return json.loads((directory / "analyze" / "analysis.json").read_text(encoding="utf-8"))


def test_table_file_and_page_say_the_same(made):
    directory, done = made
    found = analysis_in(directory)
    assert found["advice"].upper() in done.out
    names = [layer["name"] for layer in found["layers"]]
    page = (directory / "analyze" / "analysis.html").read_text(encoding="utf-8")
    for name in names:
        assert name in done.out
        assert name in page
    assert " ".join(found["reason"].split()[:4]) in page
    assert done.out.rstrip().endswith("analysis.html")


def test_it_comes_before_any_quantization(made):
    directory, _ = made
    stages = {folder.name for folder in directory.iterdir() if folder.is_dir()}
    assert not stages & {"calibrate", "quantize", "evaluate"}


def test_every_layer_has_errors_and_times(made):
    directory, _ = made
    found = analysis_in(directory)
    assert found["fp32_us"].keys() == {"1", "64"}
    assert found["correlation"] > 0.8
    for layer in found["layers"]:
        methods = [option["method"] for option in layer["options"]]
        assert methods[-1] == "float"
        for option in layer["options"]:
            assert option["us"].keys() == {"1", "64"}
            assert option["measured_error"] is not None
            assert option["error"] is not None


def test_an_analysis_that_is_current_is_shown_again(made, project):
    directory, _ = made
    before = (directory / "analyze" / "analysis.json").read_bytes()
    words = ("analyze", project / "static.yaml", "--run-dir", directory, "--quiet", "--json")
    done = succeeded(*words)
    assert done.out.encode() == before
    assert json.loads(done.out)["layers"]


def test_another_observer_is_another_analysis(made, project, tmp_path):
    directory, _ = made
    copy = tmp_path / "run"
    shutil.copytree(directory, copy)
    words = ("--set", "quantization.observer={method: percentile, percentile: 90}", "--quiet")
    succeeded("analyze", project / "static.yaml", "--run-dir", copy, *words)
    pairs = zip(analysis_in(directory)["layers"], analysis_in(copy)["layers"], strict=True)
    changed = [
        a["name"]
        for a, b in pairs
        for x, y in zip(a["options"], b["options"], strict=True)
        if x["method"] == "static" and x["error"] != y["error"]
    ]
    assert changed


def test_it_works_without_labels_and_without_calibration(project, tmp_path):
    words = ("--set", "data.label=null", "--set", "data.split={by: hash, key: id}")
    config = project / "dynamic.yaml"
    evaluation = ("--set", "evaluation={latency: {enabled: false}}")
    done = qtool("analyze", config, "--run-dir", tmp_path, "--quiet", *words, *evaluation)
    assert done.code == 0, done.err
    assert analysis_in(tmp_path)["advice"] in ("quantize", "quantize these", "keep FP32")


def test_another_target_has_the_times_of_the_table(project, tmp_path):
    words = ("--set", "target.cpu=arm_dotprod", "--quiet")
    done = succeeded("analyze", project / "static.yaml", "--run-dir", tmp_path, *words)
    found = analysis_in(tmp_path)
    assert found["target"] == "arm_dotprod"
    assert not any(option["timed"] for layer in found["layers"] for option in layer["options"])
    assert any("cost table for arm_dotprod" in note for note in found["notes"])
    assert "cost table" in done.out
