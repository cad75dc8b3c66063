"""``quantization.method: auto`` as a user meets it: answers, evidence, kills, and what follows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import onnx
import pytest
import yaml
from support.cli import qtool, started, succeeded

from qtool.commands.auto import copy_model

AUTO = ("--set", "quantization.method=auto", "--quiet")


def answer(directory):
    return json.loads((directory / "search" / "answer.json").read_text())


def trials(directory):
    lines = (directory / "search" / "trials.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def searched(project, tmp_path_factory):
    directory = tmp_path_factory.mktemp("auto")
    done = succeeded("run", project / "static.yaml", "--run-dir", directory, *AUTO)
    return directory, done


def test_the_answer_is_measured_and_passes(searched):
    directory, done = searched
    found = answer(directory)
    assert found["found"]
    assert "times the speed of FP32" in found["reason"]
    chosen = next(t for t in reversed(trials(directory)) if t["candidate"]["section"])
    assert chosen["latency"]
    assert "Search" in done.out
    page = (directory / "evaluate" / "report.html").read_text()
    assert "Models of the search" in page
    result = json.loads((directory / "evaluate" / "result.json").read_text())
    assert sum(trial["chosen"] for trial in result["search"]["trials"]) >= 1


def test_the_answer_is_a_section_that_can_be_used_instead(searched, project, tmp_path):
    directory, _ = searched
    section = yaml.safe_load((directory / "search" / "quantization.yaml").read_text())
    config = yaml.safe_load((project / "static.yaml").read_text())
    (project / "answer.yaml").write_text(yaml.safe_dump({**config, **section}))
    succeeded("quantize", project / "answer.yaml", "--run-dir", tmp_path, "--quiet")
    written, own = (
        (run / "quantize" / "model.int8.onnx").read_bytes() for run in (directory, tmp_path)
    )
    assert written == own
    assert written == (directory / "search" / "model.int8.onnx").read_bytes()


def test_the_best_so_far_is_a_model_with_its_evidence(searched):
    directory, _ = searched
    onnx.checker.check_model(str(directory / "best" / "model.int8.onnx"))
    evidence = json.loads((directory / "best" / "trial.json").read_text())
    assert {gate["verdict"] for gate in evidence["gates"]} == {"pass"}
    assert np.isfinite(evidence["error"])


def test_a_second_run_is_current(searched, project):
    directory, _ = searched
    done = succeeded("run", project / "static.yaml", "--run-dir", directory, *AUTO[:2])
    assert "search: current" in done.err


def test_no_plan_meets_the_gates(project, tmp_path):
    gates = ("--set", "evaluation.gates={size_ratio: 0.01}")
    done = qtool("run", project / "static.yaml", "--run-dir", tmp_path / "run", *AUTO, *gates)
    assert done.code == 1
    assert "none of" in done.err
    assert "size_ratio" in done.err
    assert (tmp_path / "run" / "best" / "model.int8.onnx").is_file()
    assert not (tmp_path / "run" / "bundle").exists()


def test_training_finishes_what_no_other_tuning_can(project, tmp_path):
    # No model before training passes a gate on codes of its size; training is asked to follow.
    gates = ("--set", "evaluation.gates={size_ratio: 0.01}")
    arguments = ("--run-dir", tmp_path / "run", *AUTO, *gates)
    done = qtool("run", project / "qat.yaml", *arguments)
    assert done.code == 1
    assert (tmp_path / "run" / "train-qat" / "model.int8.onnx").is_file()
    assert "FAILED" in done.out
    without = ("--set", "quantization.finish_with_qat=false")
    done = qtool("run", project / "qat.yaml", *arguments, *without)
    assert "none of" in done.err


def test_training_is_left_out_where_none_is_needed(searched, project):
    directory, _ = searched
    succeeded("quantize", project / "static.yaml", "--run-dir", directory, *AUTO)
    assert not (directory / "train-qat").exists()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX kills without a word")
def test_a_killed_search_leaves_a_valid_model_and_goes_on(project, tmp_path):
    directory = tmp_path / "run"
    process = started("run", project / "static.yaml", "--run-dir", directory, *AUTO, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        files = list(directory.glob(".partial/search-*/trials.jsonl"))
        if files and len(files[0].read_text().splitlines()) >= 3:
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    onnx.checker.check_model(str(directory / "best" / "model.int8.onnx"))
    lines = files[0].read_text().splitlines(keepends=True)
    judged = [json.loads(line) for line in lines if line.endswith("\n")]
    with files[0].open("a") as file:
        file.write('{"candidate": {"sect')  # what a kill may leave
    done = succeeded("run", project / "static.yaml", "--run-dir", directory, *AUTO[:2])
    assert "search: resuming" in done.err
    again = trials(directory)
    assert again[: len(judged)] == judged
    # Judged once and timed once or twice: nothing is done again. (Not compared with another
    # search: the plans follow from times that each search measures for itself.)
    untimed = [json.dumps(t["candidate"]) for t in again if not t["latency"]]
    assert len(set(untimed)) == len(untimed) > len(judged) - 1
    assert answer(directory)["found"]


def test_a_search_needs_no_time_to_answer(project, tmp_path):
    directory = tmp_path / "run"
    hurry = ("--set", "quantization.seconds=0.001")
    succeeded("quantize", project / "static.yaml", "--run-dir", directory, *AUTO, *hurry)
    assert {trial["candidate"]["places"] for trial in trials(directory)} <= {
        "the fastest plan",
        "everything static",
        "everything dynamic",
        "everything stored",
    }


def test_rules_and_tunings_of_the_config_hold_for_the_answer(project, tmp_path):
    config = yaml.safe_load((project / "static.yaml").read_text())
    config["quantization"] = {
        "method": "auto",
        "seconds": 0.001,
        "layers": [{"match": "Gemm", "method": "storage"}],
        "tuning": [{"method": "equalize"}],
    }
    copied = shutil.copytree(project, tmp_path / "project")
    (copied / "ruled.yaml").write_text(yaml.safe_dump(config))
    succeeded("quantize", copied / "ruled.yaml", "--run-dir", tmp_path / "run", "--quiet")
    section = yaml.safe_load((tmp_path / "run" / "search" / "quantization.yaml").read_text())
    assert section["quantization"]["layers"][0] == {"match": "Gemm", "method": "storage"}
    assert section["quantization"]["tuning"][0]["method"] == "equalize"
    coverage = json.loads((tmp_path / "run" / "quantize" / "coverage.json").read_text())
    assert {n["treatment"] for n in coverage if n["op_type"] == "Gemm"} == {"storage"}


def test_a_large_model_is_copied_with_its_weights(tmp_path):
    built, folder = tmp_path / "built", tmp_path / "best"
    for name in ("model.int8.onnx", "model.int8.onnx.data", "plan.json"):
        built.mkdir(exist_ok=True)
        (built / name).write_text(name)
    folder.mkdir()
    copy_model(built, folder)
    assert {file.name: file.read_text() for file in folder.iterdir()} == {
        name: name for name in ("model.int8.onnx", "model.int8.onnx.data", "plan.json")
    }
