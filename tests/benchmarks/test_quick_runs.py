from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "def main" in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "update_docs"])
def test_a_quick_run_writes_rows(name, tmp_path):
    target = tmp_path / "rows.json"
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--json", str(target)]
    done = subprocess.run(
        [*command, "--data", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(target.read_text("utf-8"))
    assert rows
    assert all(set(row) == {"case", "metric", "value", "unit", "peer", "notes"} for row in rows)
    assert all(isinstance(row["value"], float) for row in rows)
    assert rows[0]["case"] in done.stdout


def test_the_committed_page_is_made_from_the_committed_results(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import update_docs

    committed = update_docs.TARGET.read_text("utf-8")
    monkeypatch.setattr(update_docs, "TARGET", tmp_path / "page.md")
    monkeypatch.setattr(sys, "argv", ["update_docs.py"])
    update_docs.main()
    assert (tmp_path / "page.md").read_text("utf-8") == committed
