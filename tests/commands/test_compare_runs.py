from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.cli import qtool, succeeded
from support.project import tree

from qtool.commands import compare
from qtool.evaluation.results import Evaluation, GateResult, MetricChange
from qtool.report.stored import to_stored
from qtool.runs import RECORD, sha256_of

METRIC = MetricChange("mae", "MAE", "lower", 2.0, 2.1, 0.05, 0.15, 0.02, 0.95, "bootstrap", 100)
EVALUATION = Evaluation(
    name="forecast", task="regression", method="static", qat=False, rows=100, positives=None,
    metrics=(METRIC,), decisions=None, sizes_bytes={"fp32": 200, "int8": 60}, coverage=(),
    parity=None, latency=(),
    gates=(GateResult("mae_drop", "fail", 0.1, 0.14, 0.01, 0.95, "worse"),),
    provenance={"data sha256": "ab", "INT8 model sha256": "cd"},
)  # fmt: skip


def make_run(directory: Path, evaluation: Evaluation = EVALUATION) -> Path:
    folder = directory / "evaluate"
    folder.mkdir(parents=True)
    result = folder / "result.json"
    result.write_text(to_stored(evaluation), encoding="utf-8")
    record = {"key": "k", "outputs": {"result.json": sha256_of(result)}}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return directory


def test_runs_are_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", dataclasses.replace(EVALUATION, method="dynamic"))
    page = tmp_path / "page.html"
    done = succeeded("compare", one, two, "--output", page)
    assert "FAILED: 0.10000, at most 0.01000" in done.out
    assert done.out.rstrip().endswith(f"Report: {page}")
    assert "2 runs" in page.read_text(encoding="utf-8")
    found = json.loads(succeeded("compare", one, two, "-o", page, "--json").out)
    assert {name: run["method"] for name, run in found["runs"].items()} == {
        "one": "static",
        "two": "dynamic",
    }


def test_runs_of_one_name_are_told_apart_by_their_path(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / place / "run") for place in "ab"]
    done = succeeded("compare", *runs, "--output", tmp_path / "page.html", "--json")
    assert list(json.loads(done.out)["runs"]) == [str(run) for run in runs]


def test_a_run_beside_itself_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    done = qtool("compare", run, tmp_path / "x" / ".." / "run")
    assert done.code == 2
    assert f"the run {run} again; expected different runs" in done.err


def test_a_page_never_becomes_a_file_of_a_stage(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    before = tree(run)
    done = qtool("compare", run, "--output", run / "evaluate" / "result.json")
    assert done.code == 2
    assert "a place among the files of a finished stage" in done.err
    assert tree(run) == before


def test_other_tasks_are_refused(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one")
    two = make_run(tmp_path / "two", dataclasses.replace(EVALUATION, task="representation"))
    done = qtool("compare", one, two)
    assert done.code == 2
    assert "two: a run of representation; expected regression" in done.err


def test_what_is_no_evaluated_run_is_refused(tmp_path: Path) -> None:
    done = qtool("compare", tmp_path)
    assert done.code == 2
    assert "no run directory" in done.err
    (tmp_path / "quantize").mkdir()
    (tmp_path / "quantize" / RECORD).write_text("{}", encoding="utf-8")
    assert "a run without an evaluation" in qtool("compare", tmp_path).err


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("evaluate/result.json", "{}", "changed after it was made"),
        (f"evaluate/{RECORD}", "[]", "not the record of a stage"),
    ],
)
def test_what_is_not_current_is_refused(tmp_path: Path, file: str, text: str, found: str) -> None:
    run = make_run(tmp_path / "run")
    (run / file).parent.mkdir(exist_ok=True)
    (run / file).write_text(text, encoding="utf-8")
    done = qtool("compare", run)
    assert done.code == 6, done.err
    assert found in done.err


def test_a_run_that_is_written_meanwhile_is_refused(tmp_path: Path, monkeypatch) -> None:
    run = make_run(tmp_path / "run")
    real = compare.output_of

    def replaced(folder: Path, name: str) -> Path:
        found = real(folder, name)
        found.unlink()
        return found

    monkeypatch.setattr(compare, "output_of", replaced)
    done = qtool("compare", run, "--output", tmp_path / "page.html")
    assert done.code == 6, done.err
    assert "result.json was replaced while it was read; expected a run that no other" in done.err
    assert not (tmp_path / "page.html").exists()


def test_an_evaluation_of_an_earlier_model_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    folder = run / "quantize"
    folder.mkdir()
    model = folder / "model.int8.onnx"
    model.write_bytes(b"")  # a model without nodes
    record = {"key": "k", "outputs": {model.name: sha256_of(model)}}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    done = qtool("compare", run)
    assert done.code == 6, done.err
    assert "the INT8 model was made again after this evaluation" in done.err
    model.write_bytes(b"damaged")
    assert "model.int8.onnx: changed after it was made" in qtool("compare", run).err
