"""The command line itself: what it loads, what it prints where."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
import support.cli
from support.cli import qtool, succeeded

from qtool import __version__

COMMANDS = (
    "train-qat",
    "calibrate",
    "quantize",
    "evaluate",
    "compare",
    "export",
    "run",
    "init",
    "doctor",
    "schema",
)
HEAVY = {"torch", "onnxruntime", "pyarrow", "onnx", "onnx_ir", "sklearn", "scipy", "matplotlib"}
HEAVY |= {"numpy", "onnxscript", "jinja2"}
DRIVER = """\
import json, os, sys
sys.argv = ["qtool", *json.loads(sys.argv[1])]
from qtool.cli import main
try:
    main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
"""Runs a command line and prints the loaded top-level modules as the last line of stderr."""
SPY = """\
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("telemetry", os.environ.get("ORT_DISABLE_TELEMETRY"), file=sys.stderr)
sys.meta_path.insert(0, Spy())
"""


def fresh(*arguments, cwd):
    """Returns (exit code, stdout, stderr lines, loaded modules) of a fresh interpreter."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps([str(one) for one in arguments])],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(support.cli.ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(f"qtool {' '.join(map(str, arguments))}: {time.monotonic() - started:.2f} s")  # noqa: T201
    *said, modules = done.stderr.splitlines()
    return done.returncode, done.stdout, said, set(json.loads(modules))


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), (), *((command, "--help") for command in COMMANDS)],
    ids=" ".join,
)
def test_help_loads_no_library(arguments, tmp_path):
    code, out, said, modules = fresh(*arguments, cwd=tmp_path)
    assert code == (0 if arguments else 2)
    assert out or said
    assert not HEAVY & modules
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train-qat", "calibrate", "quantize", "evaluate", "run"])
def test_a_config_error_loads_no_library(command, project, tmp_path):
    config, wrong = project / "static.yaml", ("--set", "quantization.method=sttic")
    code, out, said, modules = fresh(command, config, *wrong, cwd=tmp_path)
    assert (code, out, len(said)) == (3, "", 1)
    assert said[0].startswith(
        "error: --set quantization.method=sttic: quantization.method: 'sttic'"
    )
    assert not HEAVY & modules
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("rnu",), ("run",), ("run", "a.yaml", "--ste", "b=c")])
def test_a_usage_error_loads_no_library(arguments, tmp_path):
    code, out, _, modules = fresh(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert not HEAVY & modules


@pytest.fixture(scope="module")
def quantized(project, tmp_path_factory):
    """A run directory with an INT8 model, and the modules that each command loaded for it."""
    directory = tmp_path_factory.mktemp("cli")
    modules = {}
    for command in ("calibrate", "quantize", "evaluate"):
        arguments = (command, project / "static.yaml", "--run-dir", directory)
        code, _, said, modules[command] = fresh(*arguments, cwd=directory)
        assert code == 0, said
    return directory, modules


def test_an_onnx_model_needs_no_torch(quantized):
    _, modules = quantized
    assert all("torch" not in loaded for loaded in modules.values())
    assert "onnxruntime" in modules["calibrate"]
    assert not modules["calibrate"] & {"matplotlib", "jinja2", "sklearn"}


@pytest.mark.parametrize("command", ["calibrate", "quantize", "evaluate", "export", "run"])
def test_json_is_all_that_stdout_gets(command, project, quantized):
    directory, _ = quantized
    done = succeeded(command, project / "static.yaml", "--run-dir", directory, "--json")
    result = json.loads(done.out)
    if command in ("evaluate", "run"):
        assert result["passed"] is True
    else:
        assert set(result) == {"folder", "files"}


@pytest.mark.parametrize("command", ["calibrate", "quantize", "evaluate", "export", "run"])
@pytest.mark.parametrize("force", [False, True])
def test_quiet_leaves_stderr_empty(command, force, project, quantized):
    directory, _ = quantized
    forced = ("--force",) if force else ()
    done = succeeded(command, project / "static.yaml", "--run-dir", directory, "--quiet", *forced)
    assert done.err == ""
    assert done.out


def test_progress_goes_to_stderr(project, quantized):
    directory, _ = quantized
    loud = succeeded("calibrate", project / "static.yaml", "--run-dir", directory, "--force")
    quiet = succeeded("calibrate", project / "static.yaml", "--run-dir", directory, "--quiet")
    assert "calibrate: " in loud.err
    assert loud.out == quiet.out
    files = [line for line in quiet.out.splitlines() if line.startswith(str(directory))]
    assert quiet.out.splitlines()[-len(files) :] == files
    assert {line.rpartition("/")[2] for line in files} == {
        "plan.json",
        "ranges.json",
        "representativeness.json",
        "stage.json",
    }


def test_without_a_terminal_there_is_no_colour(project, quantized):
    directory, _ = quantized
    done = succeeded("evaluate", project / "static.yaml", "--run-dir", directory)
    assert "\x1b" not in done.out + done.err


def test_version_and_doctor_and_schema():
    assert succeeded("--version").out == f"qtool {__version__}\n"
    report = json.loads(succeeded("doctor", "--json").out)
    assert report["qtool"] == __version__
    assert report["INT8 kernels"] in succeeded("doctor").out
    schema = json.loads(succeeded("schema").out)
    assert schema["additionalProperties"] is False
    assert {"name", "model", "data", "extends"} <= set(schema["properties"])


def test_a_bug_ends_with_code_70_and_a_report(project, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("made for this test")

    monkeypatch.setattr("qtool.commands.context.load", broken)
    done = qtool("run", project / "static.yaml", "--run-dir", tmp_path / "run")
    assert done.code == 70
    assert "ZeroDivisionError: made for this test" in done.err
    assert done.err.splitlines()[-1].startswith(f"qtool {__version__}, Python 3.")


def test_the_runtime_is_loaded_with_its_telemetry_off(tmp_path):
    """ONNX Runtime 1.29 and later report models and devices to their maker unless told not to."""
    code = f"{SPY}\nimport qtool.commands.train_qat, qtool.commands.export"
    environment = {**os.environ, "PYTHONPATH": str(support.cli.ROOT)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "telemetry 1\n"
