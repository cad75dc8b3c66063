"""What ``qtool calibrate`` leaves, for every observer and for samples that grow."""

from __future__ import annotations

import json

import pytest
from support.cli import qtool, succeeded

from qtool.runtime.cpu import detect


def calibrated(project, run_dir, *overrides):
    """Returns ranges.json and representativeness.json of a run."""
    words = [word for override in overrides for word in ("--set", override)]
    succeeded("calibrate", project / "static.yaml", "--run-dir", run_dir, "--quiet", *words)
    folder = run_dir / "calibrate"
    names = ("ranges.json", "representativeness.json")
    return [json.loads((folder / name).read_text(encoding="utf-8")) for name in names]


def test_every_observer_can_be_chosen(project, tmp_path):
    highs = {}
    for method in ("min_max", "moving_average", "percentile", "entropy", "mse"):
        found, _ = calibrated(project, tmp_path, f"quantization.observer={{method: {method}}}")
        highs[method] = json.dumps(found["ranges"])
    assert len(set(highs.values())) == len(highs)


def test_samples_auto_leaves_its_evidence(project, tmp_path):
    found, _ = calibrated(project, tmp_path, "quantization.samples=auto")
    rows = [check["rows"] for check in found["checks"]]
    assert found["samples"] == rows[-1] < 600  # the calibration split has a tenth of 3000 rows
    assert found["checks"][0] == {"rows": rows[0], "largest_change": None, "tensor": ""}


@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_the_size_of_batches_changes_no_byte(project, tmp_path, batch_rows):
    usual = calibrated(project, tmp_path / "usual")
    other = calibrated(project, tmp_path / "other", f"data.batch_rows={batch_rows}")
    assert usual == other


def test_tensors_stand_beside_the_columns(project, tmp_path):
    found, report = calibrated(project, tmp_path)
    tensors = {row["tensor"]: row for row in report["tensors"]}
    assert set(tensors) <= set(found["ranges"])
    assert tensors
    for row in tensors.values():
        assert row["values"] % found["samples"] == 0
        assert row["channel_ratio"] >= 1


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("atuo", "Did you mean 'auto'?"),
        ("0", "expected greater than 0"),
        ("2.5", "expected a valid integer"),
    ],
)
def test_a_wrong_number_of_samples_is_one_complaint(project, tmp_path, samples, message):
    words = ("--set", f"quantization.samples={samples}")
    done = qtool("calibrate", project / "static.yaml", "--run-dir", tmp_path, *words)
    assert done.code == 3
    assert done.err.count("error:") == 1
    assert message in done.err


def test_bfloat16_tells_its_error_or_that_this_cpu_has_none(project, tmp_path):
    if "amx_bf16" in detect().features:
        found, _ = calibrated(
            project,
            tmp_path,
            "quantization.forward=bfloat16",
            "quantization.observer={method: min_max}",
        )
        assert 0 < found["bfloat16"]["range_error"] < 0.02
    else:
        done = qtool(
            "calibrate",
            project / "static.yaml",
            "--run-dir",
            tmp_path,
            "--set",
            "quantization.forward=bfloat16",
        )
        assert done.code == 2
        assert "bfloat16 on a CPU without AMX" in done.err
