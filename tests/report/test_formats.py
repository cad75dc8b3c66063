from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console, RenderableType

from qtool.evaluation.results import Evaluation
from qtool.evaluation.sample import Sample
from qtool.report.console import console_coverage, console_result
from qtool.report.github import to_annotations
from qtool.report.group_tables import robustness_table
from qtool.report.html import to_html
from qtool.report.json import accuracy_json, latency_json, to_json
from qtool.report.junit import to_junit
from qtool.report.markdown import to_markdown
from qtool.report.summary import facts, verdict

GOLDEN = Path(__file__).with_name("golden.md")


def printed(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_json_holds_everything_with_latencies_summarised(evaluation: Evaluation) -> None:
    document = json.loads(to_json(evaluation))
    assert document["passed"] is True
    assert document["metrics"]["auc"]["fp32"] == 0.96
    assert document["decisions"]["flip_share"] == 0.00075
    assert document["latency"][0]["fp32_us"] == {
        "p50": 15, "p95": 19.5, "p99": 19.9, "p99_9": None, "mean": 15, "count": 1001,
    }  # fmt: skip
    assert [gate["name"] for gate in document["gates"]][-1] == "equal_codes"
    assert len(document["coverage"]) == 3


def test_accuracy_json_does_not_depend_on_the_clock(
    evaluation: Evaluation, bare: Evaluation
) -> None:
    slower = tuple(
        dataclasses.replace(result, speedup=0.5, int8_us=result.fp32_us)
        for result in evaluation.latency
    )
    gates = tuple(
        dataclasses.replace(gate, verdict="fail", value=0.5) if gate.name == "speedup" else gate
        for gate in evaluation.gates
    )
    other = dataclasses.replace(evaluation, latency=slower, gates=gates, notes=())
    assert accuracy_json(other) == accuracy_json(evaluation)
    assert latency_json(other) != latency_json(evaluation)
    assert [gate["name"] for gate in json.loads(latency_json(other))["gates"]] == ["speedup"]


def test_json_has_null_for_what_was_not_measured(bare: Evaluation) -> None:
    text = to_json(bare)
    assert "NaN" not in text
    gates = {gate["name"]: gate for gate in json.loads(text)["gates"]}
    assert gates["speedup"]["value"] is None
    assert gates["speedup"]["verdict"] == "fail"


def test_junit_has_one_case_per_gate(bare: Evaluation) -> None:
    suites = ElementTree.fromstring(to_junit(bare))
    (suite,) = suites
    assert suite.attrib == {"name": "card-fraud", "tests": "7", "failures": "2", "errors": "0"}
    failures = {case.get("name"): case.find("failure") for case in suite}
    assert [name for name, failure in failures.items() if failure is not None] == [
        "speedup",
        "equal_codes",
    ]
    assert "evaluation.latency.enabled is false" in str(failures["speedup"].text)


def test_junit_says_how_many_rows_an_undecided_gate_needs(undecided: Evaluation) -> None:
    suites = ElementTree.fromstring(to_junit(undecided))
    failures = {case.get("name"): case.find("failure") for case in suites[0]}
    failure = failures["auc_drop"]
    assert failure is not None
    assert failure.get("type") == "undecided"
    (gate,) = (gate for gate in undecided.gates if gate.name == "auc_drop")
    assert f"about {gate.rows_needed:,} rows would decide" in str(failure.get("message"))


def test_markdown_is_the_golden_file(evaluation: Evaluation) -> None:
    """To accept a change, run with ``QTOOL_WRITE_GOLDEN=1`` and read the difference."""
    if os.environ.get("QTOOL_WRITE_GOLDEN"):
        GOLDEN.write_text(to_markdown(evaluation), encoding="utf-8")
    assert to_markdown(evaluation) == GOLDEN.read_text(encoding="utf-8")


def test_markdown_escapes_cells(evaluation: Evaluation) -> None:
    hostile = dataclasses.replace(evaluation, provenance={"<b>|": "`x`\n*y*"})
    assert "| &lt;b&gt;\\| | \\`x\\` \\*y\\* |" in to_markdown(hostile)


def test_markdown_leaves_out_what_was_not_measured(bare: Evaluation) -> None:
    text = to_markdown(bare)
    assert text.startswith(
        "## card-fraud: FAILED\n\n**2 of 7 gates failed: speedup, equal_codes.**"
    )
    for title in ("Latency", "Simulation", "Coverage", "Provenance", "Notes"):
        assert f"### {title}" not in text


def test_console_shows_tables_and_ends_with_the_verdict(
    evaluation: Evaluation, bare: Evaluation
) -> None:
    text = printed(console_result(evaluation))
    assert "PR-AUC" not in text
    for shown in ("Brier score", "Gates", "2.00\u00d7 (1.90 to 2.12), faster", "27.5 %"):
        assert shown in text
    assert text.rstrip().endswith("PASSED  7 of 7 gates hold.")
    assert printed(console_result(bare)).rstrip().endswith("speedup, equal_codes.")


def test_console_coverage_shows_names_as_they_are(evaluation: Evaluation) -> None:
    (node, *_) = evaluation.coverage
    text = printed(console_coverage([dataclasses.replace(node, name="[red]layer[/red]")]))
    assert "[red]layer[/red]" in text
    assert "constant weight, rank 2" in text


def test_console_and_markdown_show_the_worst_of_many(full: Evaluation) -> None:
    many = dataclasses.replace(full, segments=full.segments[:2] * 20)
    assert "AUC by segment: the worst 5 of 40" in printed(console_result(many))
    text = to_markdown(many)
    assert "### AUC by segment: the worst 10 of 40" in text
    assert "<script" not in text
    assert "not measured" in text  # the p-value that is not defined
    assert not re.search(r"\bnan\b", text)


HARMFUL = "a\x1b[31mb\0\u202ec\n|d\x85\xa0e"


@pytest.fixture
def harmful(full: Evaluation) -> Evaluation:
    """Names of the user that a terminal would obey, and XML cannot hold."""
    (node, *_), (segment, *_), (gate, *_) = full.coverage, full.segments, full.gates
    return dataclasses.replace(
        full,
        coverage=(dataclasses.replace(node, name=HARMFUL),),
        segments=(dataclasses.replace(segment, column=HARMFUL),),
        gates=(dataclasses.replace(gate, verdict="fail", text=f"where {HARMFUL} is x"),),
        notes=(f"No value of {HARMFUL}",),
    )


def test_no_format_passes_control_characters_on(
    harmful: Evaluation, make_sample: Callable[..., Sample]
) -> None:
    texts = {
        "junit": to_junit(harmful),
        "markdown": to_markdown(harmful),
        "page": to_html(harmful, make_sample()),
        "console": printed(console_result(harmful)) + printed(console_coverage(harmful.coverage)),
        "github": to_annotations(harmful),
    }
    for name, text in texts.items():
        assert not re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\xa0]", text), name
        assert "a\ufffd[31mb\ufffd\ufffdc" in text.replace("\\", ""), name
    ElementTree.fromstring(texts["junit"])
    assert json.loads(to_json(harmful))["coverage"][0]["name"] == HARMFUL


def test_attacks_stand_beside_the_same_rows_without_one(full: Evaluation) -> None:
    document = json.loads(to_json(full))
    before, first, *_ = document["robustness"]
    assert (before["kind"], before["level"], before["difference"]) == ("none", 0, None)
    assert before["metric"]["fp32"] == 0.9712
    assert first["kind"] == "fgsm"
    line = "| no attack |  | 1,000 | AUC | 0.97120 | 0.97110 |  |  |  |  |"
    assert line in to_markdown(full)
    assert re.search(r"no attack +1,000 +AUC +0\.97120 +0\.97110", printed(console_result(full)))
    few = robustness_table(full, 2)
    assert [row[0] for row in few.rows] == ["no attack", "fgsm", "fgsm"]
    assert few.title == "Attacks and stress: the worst 2 of 8"


def test_without_decisions_the_worst_attack_drops_the_metric_most(full: Evaluation) -> None:
    before, *changed = full.robustness
    falling = [
        dataclasses.replace(
            one,
            difference=math.nan,
            metric=dataclasses.replace(one.metric, int8=one.metric.fp32 - drop),
        )
        for one, drop in zip(changed, (0.01, math.nan, 0.03, 0.02, 0, 0, 0, 0), strict=True)
    ]
    table = robustness_table(dataclasses.replace(full, robustness=(before, *falling)), 3)
    assert [row[5] for row in table.rows] == ["0.97110", "0.93000", "0.94000", "0.95000"]


def test_a_task_without_decisions_has_facts_of_its_own(full: Evaluation) -> None:
    other = dataclasses.replace(full, task="multiclass_classification", decisions=None)
    assert [fact.label for fact in facts(other)] == ["Same class", "AUC change", "Speed-up", "Size"]
    plain = dataclasses.replace(other, task="regression", agreements=())
    assert [fact.label for fact in facts(plain)][:2] == ["AUC change", "Brier score change"]
    assert "positive" not in to_markdown(dataclasses.replace(plain, positives=None)).split("###")[0]


def test_no_gate_is_no_pass(evaluation: Evaluation, undecided: Evaluation) -> None:
    assert verdict(dataclasses.replace(evaluation, gates=())).outcome == "open"
    assert verdict(evaluation).outcome == "pass"
    assert verdict(undecided).text == ("2 of 7 gates cannot be decided: auc_drop, auc_change.")


@pytest.mark.parametrize("order", [1, -1])
def test_the_headline_speedup_is_of_the_largest_batch(evaluation: Evaluation, order: int) -> None:
    found = facts(dataclasses.replace(evaluation, latency=evaluation.latency[::order]))[2]
    assert "batch size 256" in found.detail
