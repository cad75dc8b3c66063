from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
METRICS = {
    "tabular": {
        "auc_fp32",
        "auc_change",
        "decision_flips",
        "size_ratio",
        "equal_codes_share",
        "speedup",
    },
    "blocks": {"speedup", "error", "size_ratio", "crashed"},
    "parity": {"equal_codes_share", "largest_code_difference", "decisions_equal_share"},
    "intervals": {"coverage", "expected_coverage", "passed_at_margin", "passed", "failed"},
    "latency_protocol": {
        "difference",
        "interval_above_1",
        "interval_holds_1",
        "no_difference",
        "preempted_calls",
        "serial_correlation",
        "too_noisy",
        "true_ratio",
    },
    "startup": {"startup_s"},
}


def script(name, *arguments):
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", METRICS)
def test_quick_run_prints_a_table_and_writes_rows(name, tmp_path):
    done = script(f"{name}.py", "--quick", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    assert "Metric" in done.stdout
    machine, *rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert all(set(row) == {"case", "metric", "value", "unit", "peer", "notes"} for row in rows)
    assert all(isinstance(row["value"], float) for row in rows)
    assert {row["metric"] for row in rows} == METRICS[name]
    assert machine["case"] == "machine"
    assert "onnxruntime" in machine["notes"]


def test_tabular_compares_with_each_peer_at_each_batch_size():
    results = BENCHMARKS / "results" / "tabular.json"
    rows = json.loads(results.read_text(encoding="utf-8"))
    compared = {(row["case"], row["peer"]) for row in rows if row["metric"] == "speedup"}
    for system in ("credit", "ulb"):
        for batch in (1, 32, 256):
            assert (f"{system}-static-b{batch}", "ort-static") in compared
            assert (f"{system}-dynamic-b{batch}", "ort-dynamic") in compared
            assert (f"{system}-qat-b{batch}", "fp32") in compared


def test_the_page_is_that_of_the_committed_results():
    done = script("update_docs.py", "--check")
    assert done.returncode == 0, done.stderr
