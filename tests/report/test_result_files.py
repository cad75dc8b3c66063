from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from qtool import cli
from qtool.errors import OutputError, StaleArtifactError
from qtool.evaluation.results import Evaluation
from qtool.report.github import append_summary, to_annotations
from qtool.report.json import accuracy_json, latency_json, to_json
from qtool.report.markdown import to_markdown
from qtool.report.schema import result_schema
from qtool.report.stored import from_stored, to_stored

COMMITTED = Path(__file__).parents[2] / "docs" / "evaluation.schema.json"


@pytest.mark.parametrize("write", [to_json, accuracy_json, latency_json])
@pytest.mark.parametrize("fixture", ["evaluation", "bare", "undecided", "full"])
def test_every_document_fits_the_schema(request, fixture, write) -> None:
    document = json.loads(write(request.getfixturevalue(fixture)))
    jsonschema.Draft202012Validator(result_schema()).validate(document)


def test_the_schema_is_a_schema_and_says_what_each_field_means() -> None:
    schema = result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    metric = schema["$defs"]["MetricChange"]
    assert metric["additionalProperties"] is False
    assert metric["properties"]["fp32"] == {"type": ["number", "null"], "description": "value."}
    assert metric["properties"]["drop"]["description"].startswith("How much worse INT8 is")
    described = {
        name: [key for key, part in found["properties"].items() if "description" not in part]
        for name, found in schema["$defs"].items()
        if name in ("GateResult", "LatencyEntry", "DecisionChange", "ColdStart", "StressResult")
    }
    assert not any(described.values())


@pytest.mark.parametrize("change", [{"extra": 1}, {"rows": "many"}, {"gates": None}])
def test_another_document_does_not_fit(evaluation: Evaluation, change) -> None:
    document = {**json.loads(to_json(evaluation)), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, result_schema())


def test_the_committed_schema_is_current() -> None:
    """To accept a change: ``qtool schema --result > docs/evaluation.schema.json``."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == result_schema()


def test_a_stored_result_comes_back_as_it_was(full: Evaluation) -> None:
    again = from_stored(to_stored(full).encode(), "result.json")
    assert to_json(again) == to_json(full)
    assert repr(again) == repr(full)  # NaN differs from itself


def test_another_file_is_no_stored_result(full: Evaluation) -> None:
    with pytest.raises(StaleArtifactError, match=r"result.json: not an evaluation"):
        from_stored(b'{"name": 1}', "result.json")


def test_annotations_name_every_gate_that_does_not_hold(
    bare: Evaluation, undecided: Evaluation
) -> None:
    lines = to_annotations(bare).splitlines()
    assert [line.partition("::")[2].split(" ")[0] for line in lines] == ["error", "error", "notice"]
    assert lines[0].startswith("::error title=card-fraud%3A speedup failed::not measured: ")
    *warnings, notice = to_annotations(undecided).splitlines()
    assert warnings[0].startswith("::warning title=card-fraud%3A auc_drop is undecided::AUC went")
    assert "rows would decide" in warnings[0]
    assert notice.startswith("::notice title=card-fraud%3A UNDECIDED::2 of 7 gates cannot")
    assert "%0ADecisions changed: 3 of 4,000 (0.0750 %25)" in notice


def unescaped(text: str) -> str:
    """As ``actions/runner`` ``ActionCommand.cs`` reads it, the percent sign last."""
    for code, mark in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, mark)
    return text


@given(st.text(alphabet="ab:,%\r\n23A5", max_size=12))
def test_no_name_breaks_out_of_an_annotation(name: str) -> None:
    lines = to_annotations(dataclasses.replace(ANY, name=name)).split("\n")
    assert lines.pop() == ""
    for line in lines:
        _, command, _ = line.split("::", 2)
        assert "\r" not in line
        title = command.partition("title=")[2]
        assert unescaped(title).startswith(f"{name}: ")


def test_the_summary_is_appended(evaluation: Evaluation, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")
    append_summary(summary, evaluation)
    assert summary.read_text(encoding="utf-8") == f"before\n{to_markdown(evaluation)}\n"
    with pytest.raises(OutputError, match="GITHUB_STEP_SUMMARY"):
        append_summary(tmp_path / "nowhere" / "summary.md", evaluation)


@pytest.mark.parametrize("actions", ["true", "false"])
def test_the_command_line_annotates_when_github_runs_it(
    bare: Evaluation, tmp_path: Path, monkeypatch, capsys, actions: str
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", actions)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    with pytest.raises(typer.Exit):
        cli._print_evaluation(tmp_path, bare, as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["passed"] is False
    assert printed.err == (to_annotations(bare) if actions == "true" else "")
    assert summary.read_text(encoding="utf-8") == f"{to_markdown(bare)}\n"


ANY = Evaluation(
    name="any", task="regression", method="static", qat=False, rows=1, positives=None, metrics=(),
    decisions=None, sizes_bytes={"fp32": 2, "int8": 1}, coverage=(), parity=None, latency=(),
    gates=(), provenance={},
)  # fmt: skip
