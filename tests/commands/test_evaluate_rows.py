"""Rows and columns that judge: what they may hold, and what is said of those that say nothing."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import qtool
from support.graphs import mlp

from qtool.graph.model_file import model_bytes

CONFIG = """\
name: judged
model: {onnx: model.onnx}
data:
  source: rows.parquet
  label: bad
  inputs: {x: {columns: [a0, a1, a2, a3, a4, a5, a6, a7]}}
quantization: {method: static, samples: 100}
evaluation:
  metrics: [auc, brier]
  decision: {threshold: {at: score, value: 0.25}}
  resampling: {resamples: 100}
  latency: {enabled: false}
"""
ROWS = 1000
NASTY = ("a|b", "<script>alert(1)</script>", "two\nlines", "ü" * 500, "", "[red]x[/red]", "\x01")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    columns = {f"a{place}": random.normal(size=ROWS).astype(np.float32) for place in range(8)}
    columns["bad"] = random.integers(0, 2, ROWS)
    columns["job"] = random.choice(["clerk", "nurse"], ROWS)
    columns["nasty"] = [NASTY[row % len(NASTY)] for row in range(ROWS)]
    columns["card"] = [f"card {row}" for row in range(ROWS)]
    columns["bank"] = np.zeros(ROWS, int)
    columns["day"] = np.datetime64("2024-06-01") + random.integers(0, 400, ROWS)
    columns["word"] = [("missing", "other", None, "x")[row % 4] for row in range(ROWS)]
    columns["past"] = pa.array([[1.0]] * ROWS)
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    (tmp_path / "model.onnx").write_bytes(model_bytes(mlp()))
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated(*overrides, code=0):
    words = [word for text in overrides for word in ("--set", f"evaluation.{text}")]
    done = qtool("evaluate", "config.yaml", "--quiet", "--json", *words)
    assert done.code == code, done.err
    return json.loads(done.out) if done.out else done.err


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("segments=[past]", "'past': values of type list<element: double>; expected one value per"),
        ("fairness.columns=[past]", "'past': values of type list"),
        ("resampling.cluster=past", "'past': values of type list"),
        ("segments=[jobs]", "no column 'jobs' (did you mean 'job'?)"),
    ],
)
def test_columns_are_checked_before_any_work(folder, override, found):
    assert found in evaluated(override, code=5)
    assert not (folder / "runs" / "judged" / "data").exists()


def test_texts_have_no_order_to_keep_in_one_direction(folder):
    inputs = "{x: {columns: [a0]}, t: {kind: categorical, columns: [job]}}"
    done = qtool(
        "evaluate", "config.yaml", "--set", f"data.inputs={inputs}",
        "--set", "evaluation.monotonicity={columns: {job: increasing}}",
    )  # fmt: skip
    assert (done.code, "'job': values of type string; expected numbers or" in done.err) == (5, True)
    assert not (folder / "runs" / "judged" / "data").exists()


def test_columns_of_other_tasks_are_checked_too(folder):
    for task, label, key, found in (
        ("multiclass_classification", "bad", "trading={returns: job, positions: [0, 1]}", "string"),
        ("representation", "bad", "retrieval.query=job", "expected numbers or booleans"),
        ("regression", "a0", "forecast.history=bank", "expected lists of numbers"),
    ):
        words = ("--set", f"task={task}", "--set", f"data.label={label}")
        inputs = ("--set", "data.inputs.x.columns=[a1]") if label == "a0" else ()
        metrics = ("--set", "evaluation.metrics=null", "--set", "evaluation.decision=null")
        done = qtool(
            "evaluate", "config.yaml", *words, *inputs, *metrics, "--set", f"evaluation.{key}"
        )
        assert (done.code, found in done.err) == (5, True), done.err


def test_a_single_cluster_gives_no_interval_and_no_verdict(folder):
    found = evaluated("resampling.cluster=bank", "gates={auc_drop: 0.5, brier_drop: 0.5}", code=1)
    assert [gate["verdict"] for gate in found["gates"]] == ["undecided", "undecided"]
    assert found["metrics"]["auc"]["low"] is None
    blocks = evaluated("resampling.block=5000", "gates={auc_drop: 0.5}", code=1)
    assert blocks["gates"][0]["verdict"] == "undecided"


def test_columns_that_tell_no_rows_apart_are_told(folder):
    found = evaluated(
        "segments=[job, card]", "fairness={columns: [bank, job]}",
        "gates={worst_segment_drop: 0.5, adverse_impact_drop: 0.5}",
    )  # fmt: skip
    assert {segment["column"] for segment in found["segments"]} == {"job"}
    assert "No value of card has 30 rows or more, so it has no segments." in found["notes"]
    assert any(note.startswith("Fewer than two groups of bank have") for note in found["notes"])
    alone = evaluated("segments=[card]", "gates={worst_segment_drop: 0.5}", code=1)
    assert alone["gates"][0]["verdict"] == "fail"
    assert "names no column with a segment to judge" in alone["gates"][0]["text"]


def test_nothing_flagged_is_nothing_explained(folder):
    never = "decision.threshold={at: score, value: 1.0}"
    found = evaluated(never, "reason_codes={}", "gates={reason_overlap: 0.5}", code=1)
    assert (found["reasons"]["rows"], found["reasons"]["overlap"]) == (0, None)
    assert "FP32 flags no row" in found["gates"][0]["text"]
    report = (folder / "runs" / "judged" / "evaluate" / "report.md").read_text()
    assert "|  | not measured |" in report


def test_dates_are_periods_and_texts_are_not_missing_values(folder):
    fair = "fairness={columns: [day], smallest_group: 20}"
    found = evaluated("segments=[day, word]", fair)["segments"]
    values = {column: [one["value"] for one in found if one["column"] == column]
              for column in ("day", "word")}  # fmt: skip
    assert values["day"] == ["2024-Q2", "2024-Q3", "2024-Q4", "2025-Q1", "2025-Q2", "2025-Q3"][:5]
    assert values["word"] == ["'missing'", "'other'", "x", "missing"]
    page = (folder / "runs" / "judged" / "evaluate" / "report.md").read_text()
    assert "| day | 2024-Q2 |" in page


def test_rows_of_no_cluster_are_refused(folder):
    found = evaluated("resampling.cluster=word", code=5)
    assert re.search(r"column 'word', row \d+ .*: a missing value; expected a value in ", found)
    assert not (folder / "runs" / "judged" / "evaluate").exists()


def test_rows_before_an_attack_stand_beside_it_and_decide_no_gate(folder):
    stress = "robustness={noise: [0.2], rows: 100}"
    found = evaluated(stress, "gates={robustness_drop: -0.99}", code=1)
    before, noisy = found["robustness"]
    assert (before["kind"], before["level"], before["rows"]) == ("none", 0, 100)
    assert before["metric"]["fp32"] != noisy["metric"]["fp32"]
    (gate,) = found["gates"]
    assert (gate["verdict"], gate["text"].startswith("noise at 0.2")) == ("fail", True)


def test_values_of_columns_cannot_break_a_report(folder, capfd):
    evaluated("segments=[nasty]", "gates={worst_segment_drop: -0.5}", code=1)
    made = folder / "runs" / "judged" / "evaluate"
    page = (made / "report.html").read_text()
    assert "<script>alert" not in page
    for name in ("report.html", "report.md", "junit.xml"):
        text = (made / name).read_text()
        assert not {*text} & {"\x00", "\x01"}
        assert "ü" * 61 not in text
    ElementTree.parse(made / "junit.xml")
    assert capfd.readouterr().err == ""


def test_a_metric_of_the_user_cannot_change_what_others_see(folder):
    source = "def zeroed(labels, scores):\n    scores[:] = 0\n    return 1.0\n"
    (folder / "zeroing_metric.py").write_text(source)
    done = evaluated("metrics=[auc, 'zeroing_metric:zeroed']", "pythonpath=.", code=4)
    assert "zeroing_metric.py:2 raised ValueError: assignment destination is read-only" in done
