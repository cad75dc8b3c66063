"""The whole chain on small data: what it leaves, what it repeats, and what depends on nothing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from support.cli import qtool, succeeded
from support.project import tree

from qtool.runs import sha256_of
from qtool.runtime.sessions import Session

STAGES = {
    "static": {"data", "fp32", "prepared", "calibrate", "quantize", "evaluate", "bundle"},
    "dynamic": {"data", "fp32", "prepared", "quantize", "evaluate", "bundle"},
    "qat": {"data", "fp32", "prepared", "calibrate", "train-qat", "evaluate", "bundle"},
}
TIMED = {"latency.json", "report.html", "report.md", "junit.xml"}
"""Files that hold measured times; ``result.json`` has every timed call."""
EVALUATED = {"evaluation.json", "result.json", "stage.json", *TIMED}
BUNDLED = {
    "MODEL_CARD.md",
    "config.yaml",
    "coverage.json",
    "encoder.json",
    "evaluation.json",
    "manifest.json",
    "model.int8.onnx",
    "plan.json",
    "stage.json",
    *TIMED,
}
MEASURED = {
    *(f"evaluate/{name}" for name in (*TIMED, "result.json", "stage.json")),
    *(f"bundle/{name}" for name in (*TIMED, "MODEL_CARD.md", "manifest.json", "stage.json")),
}
"""All files of a run directory that may differ between two runs when latency is measured."""


@pytest.fixture(scope="module", params=STAGES)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def finished(project, tmp_path_factory, method):
    """A run directory that was brought up to date once."""
    directory = tmp_path_factory.mktemp(method)
    succeeded("run", project / f"{method}.yaml", "--run-dir", directory)
    return directory


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def names(folder):
    return {file.name for file in folder.iterdir()}


def times(directory):
    return {file: file.stat().st_mtime_ns for file in directory.rglob("*") if file.is_file()}


def test_every_stage_leaves_its_files(finished, method):
    assert names(finished) - {".lock", ".partial"} == STAGES[method]
    assert not list((finished / ".partial").iterdir())
    assert names(finished / "evaluate") == EVALUATED
    ranges = {"ranges.json"} if method != "dynamic" else set()
    assert names(finished / "bundle") == BUNDLED | ranges
    evaluation = json.loads((finished / "evaluate" / "evaluation.json").read_text())
    assert evaluation["method"] == ("dynamic" if method == "dynamic" else "static")
    assert evaluation["qat"] == (method == "qat")
    assert {gate["name"] for gate in evaluation["gates"]} == {"auc_change", "size_ratio"}


def test_the_manifest_names_every_file_by_its_content(finished):
    bundle = finished / "bundle"
    outputs = json.loads((bundle / "manifest.json").read_text())["outputs"]
    assert set(outputs) == names(bundle) - {"manifest.json", "stage.json"}
    assert outputs == {name: sha256_of(bundle / name) for name in outputs}


def test_a_second_run_rewrites_nothing(project, copied, method):
    before = times(copied)
    done = succeeded("run", project / f"{method}.yaml", "--run-dir", copied)
    assert {line for line in done.err.splitlines() if ": current" in line} == {
        f"{stage}: current" for stage in STAGES[method]
    }
    after = times(copied)
    assert {file for file in after if after[file] != before.get(file)} == set()
    assert "PASSED" in done.out


def test_force_redoes_what_was_asked_for_and_nothing_below(project, copied, method):
    before = tree(copied)
    stamps = times(copied)
    done = succeeded("run", project / f"{method}.yaml", "--run-dir", copied, "--force")
    redone = {
        file.parent.name for file, stamp in times(copied).items() if stamp != stamps.get(file)
    }
    assert {"evaluate", "bundle"} <= redone
    assert {"data", "fp32", "prepared"} & redone == set()
    assert tree(copied) == before
    assert "data: current" in done.err


def test_another_directory_gets_the_same_bytes(project, finished, tmp_path, method):
    succeeded("run", project / f"{method}.yaml", "--run-dir", tmp_path)
    assert tree(tmp_path) == tree(finished)


def test_a_project_elsewhere_gives_the_same_bytes(project, finished, tmp_path, method, monkeypatch):
    shutil.copytree(project, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    succeeded("run", f"moved/{method}.yaml", "--run-dir", "run")
    assert tree(tmp_path / "run") == tree(finished)


def test_only_the_named_files_hold_measured_times(project, tmp_path):
    trees = []
    for name in ("one", "two"):
        arguments = ("--run-dir", tmp_path / name, "--set", "evaluation.latency.enabled=true")
        succeeded("run", project / "static.yaml", *arguments)
        trees.append(tree(tmp_path / name))
    assert set(trees[0]) == set(trees[1])
    assert set(trees[0]) >= MEASURED
    assert {name for name in trees[0] if trees[0][name] != trees[1][name]} <= MEASURED


def test_rows_per_batch_change_no_artifact(project, finished, tmp_path, method):
    config = project / f"{method}.yaml"
    succeeded("run", config, "--run-dir", tmp_path, "--set", "data.batch_rows=97")
    # The bundle records the config, where the setting itself stands.
    settings = {"bundle/config.yaml", "bundle/manifest.json", "bundle/stage.json"}
    expected, found = tree(finished), tree(tmp_path)
    assert set(found) == set(expected)
    assert {name for name in found if found[name] != expected[name]} <= settings


def test_failed_gates_give_code_1_and_no_bundle(project, tmp_path):
    arguments = ("--run-dir", tmp_path, "--set", "evaluation.gates.size_ratio=0.01")
    done = qtool("run", project / "static.yaml", *arguments)
    assert done.code == 1
    assert "FAILED" in done.out
    assert (tmp_path / "evaluate" / "evaluation.json").is_file()
    assert not (tmp_path / "bundle").exists()
    again = qtool("export", project / "static.yaml", *arguments, "--quiet")
    assert (again.code, again.out) == (1, "")
    assert again.err.startswith("error: export: gates not passed: size_ratio")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_of_a_model_that_fails_now_does_not_stay(project, tmp_path):
    config = project / "static.yaml"
    succeeded("run", config, "--run-dir", tmp_path)
    done = qtool("run", config, "--run-dir", tmp_path, "--set", "evaluation.gates.size_ratio=0.01")
    assert done.code == 1
    assert not (tmp_path / "bundle").exists()


def test_weights_that_are_listed_as_inputs_too_change_nothing(project, finished, tmp_path, method):
    """As exporters of ONNX IR version 3 wrote them."""
    here = shutil.copytree(project, tmp_path / "project")
    proto = onnx.load(here / "model.onnx")
    for item in proto.graph.initializer:
        listed = onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims)
        proto.graph.input.append(listed)
    (here / "model.onnx").write_bytes(proto.SerializeToString())
    succeeded("quantize", here / f"{method}.yaml", "--run-dir", tmp_path / "run")
    found, expected = tree(tmp_path / "run" / "prepared"), tree(finished / "prepared")
    assert found["model.onnx"] == expected["model.onnx"]


def test_the_bundle_scores_raw_rows_as_the_encoded_path_does(project, finished):
    rows = pq.read_table(project / "rows.parquet").slice(0, 500)
    numbers = np.column_stack([rows[f"n{i}"].to_numpy() for i in range(6)]).astype(np.float32)
    texts = [text or "" for text in rows["country"].to_pylist()]
    texts[:2] = ["XX", ""]  # unseen, missing
    mcc = [-(2**63) if code is None else code for code in rows["mcc"].to_pylist()]
    raw = {
        "numeric": numbers,
        "codes.country": np.array(texts, object),
        "codes.mcc": np.array(mcc, np.int64),
    }
    encoder = json.loads((finished / "bundle" / "encoder.json").read_text())
    words, codes = encoder["inputs"]["codes"]["vocabularies"]
    encoded = {
        "numeric": np.nan_to_num(numbers),
        "codes": np.array(
            [
                (
                    words.index(text) + 1 if text in words else 0,
                    codes.index(c) + 1 if c in codes else 0,
                )
                for text, c in zip(texts, mcc, strict=True)
            ]
        ),
    }
    stage = "train-qat" if (finished / "train-qat").is_dir() else "quantize"
    expected = Session((finished / stage / "model.int8.onnx").read_bytes(), "encoded").run(encoded)
    found = Session((finished / "bundle" / "model.int8.onnx").read_bytes(), "raw").run(raw)
    np.testing.assert_array_equal(found["output"], expected["output"])
    assert np.isnan(numbers).any()
    assert (encoded["codes"] == 0).any()
