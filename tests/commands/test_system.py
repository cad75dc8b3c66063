"""``evaluation.system`` as a user meets it: in the report, as a gate, and when its code changes."""

from __future__ import annotations

import json

import pytest
from support.cli import qtool, succeeded

SOURCE = """
def alerts(fp32, int8, rows, limit):
    name = next(iter(fp32(rows.inputs)))
    sides = [model(rows.inputs)[name].reshape(-1) > limit for model in (fp32, int8)]
    assert len(rows.columns["n0"]) == len(rows) == len(sides[0])
    return {"alerts": sides, "alerts_per_second": ([1.0], [2.0])}
"""


@pytest.fixture
def asked(project, tmp_path):
    (tmp_path / "alerts_of_a_test.py").write_text(SOURCE)
    section = {
        "function": "alerts_of_a_test:alerts",
        "pythonpath": str(tmp_path),
        "figures": {"alerts": "lower"},
        "timed": {"alerts_per_second": "higher"},
        "rows": 300,
        "columns": ["n0"],
        "arguments": {"limit": 0.0},
    }

    def evaluate(command=succeeded, **changes):
        settings = {"system": {**section, **changes}, "gates": {"alerts_change": 0.1}}
        words = [f"evaluation.{key}={json.dumps(value)}" for key, value in settings.items()]
        arguments = [part for word in words for part in ("--set", word)]
        run = ("--run-dir", tmp_path / "run", "--json")
        return command("evaluate", project / "static.yaml", *run, *arguments)

    return evaluate


def test_its_figures_are_shown_and_gated_and_follow_its_code(asked, tmp_path):
    found = json.loads(asked().out)
    (alerts,) = found["system"]
    assert alerts["rows"] == 300
    assert found["system_timed"][0]["int8"] == 2
    assert found["gates"][-1]["name"] == "alerts_change"
    folder = tmp_path / "run" / "evaluate"
    assert "system_timed" not in json.loads((folder / "evaluation.json").read_text())
    for report in ("report.html", "report.md"):
        assert "In the system" in (folder / report).read_text()
    assert "evaluate: current" in asked().err
    file = tmp_path / "alerts_of_a_test.py"
    file.write_text(SOURCE.replace("2.0", "3.0"))
    assert "evaluate: current" not in asked().err


def test_what_does_not_exist_is_said_before_any_work(asked, tmp_path):
    done = asked(qtool, columns=["n00"])
    assert done.code == 5
    assert "n00" in done.err
    done = asked(qtool, figures={"losses": "lower"})
    assert done.code == 3
    assert "alerts_change" in done.err
    done = asked(qtool, function="alerts_of_nobody:alerts")
    assert done.code == 4
    assert "alerts_of_nobody" in done.err
    assert not (tmp_path / "run" / "quantize").exists()
