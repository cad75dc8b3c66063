from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.cli import ROOT
from support.graphs import fraud_like, fraud_rows, mlp

from qtool.errors import ModelError
from qtool.graph.model_file import model_files, write_model
from qtool.runtime import cold_start
from qtool.runtime.cold_start import drop_from_cache, start, write_rows

linux = pytest.mark.skipif(sys.platform != "linux", reason="the page cache and /proc of Linux")


@pytest.fixture
def rows(tmp_path):
    return write_rows(tmp_path / "rows.npz", fraud_rows(3))


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "model.onnx", fraud_like())
    return tmp_path / "model.onnx"


def test_a_fresh_process_tells_times_and_memory(model, rows):
    found = start(model, rows, 1, "fp32")
    assert 0 < found.load_ms < 60_000
    assert 0 < found.first_us < 60e6
    if sys.platform == "linux":
        assert 0 < found.peak_bytes < 1 << 30


def test_external_data_are_loaded_from_beside_the_file(tmp_path, monkeypatch):
    write_model(tmp_path / "model.onnx", mlp(), single_file_bytes=0)
    assert len(model_files(tmp_path / "model.onnx")) == 2
    rows = write_rows(tmp_path / "rows.npz", {"x": np.ones((5, 8), np.float32)})
    monkeypatch.chdir(tmp_path)
    assert start(Path("model.onnx"), rows, 2, "fp32").load_ms > 0


def test_modules_in_the_working_directory_are_not_imported(model, rows, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "json.py").write_text("raise ValueError('the wrong json')\n")
    monkeypatch.chdir(tmp_path / "cwd")
    assert start(model, rows, 1, "fp32").load_ms > 0


def test_inputs_may_have_any_name(tmp_path):
    rows = write_rows(tmp_path / "rows.npz", {"file": np.ones(2), "arr_0": np.zeros(3, np.int64)})
    with np.load(rows) as written:
        names, *arrays = written.values()
    assert names.tolist() == ["file", "arr_0"]
    assert [array.tolist() for array in arrays] == [[1, 1], [0, 0, 0]]


def test_what_the_process_says_last_is_the_reason(tmp_path, rows):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"^int8: a fresh process cannot run it \(exit code 1: .*"):
        start(tmp_path / "model.onnx", rows, 1, "int8")


def test_a_killed_process_is_named(model, rows, monkeypatch, tmp_path):
    (tmp_path / "killed.py").write_text(f"import os\nos.kill(os.getpid(), {signal.SIGKILL:d})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cold_start, "PROGRAM", "killed")
    with pytest.raises(ModelError, match=r"cannot run it \(killed by signal 9\)"):
        start(model, rows, 1, "int8")


def test_the_process_loads_no_more_than_the_runtime():
    script = (
        "import sys, qtool.runtime.cold_process\n"
        "print([name for name in ('torch', 'onnx', 'onnx_ir', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes hold a load up")
def test_the_process_ends_with_the_one_that_started_it(tmp_path, model):
    """A file of rows that never ends keeps it waiting; the end of its stdin must not."""
    os.mkfifo(tmp_path / "rows.npz")
    command = [sys.executable, "-m", cold_start.PROGRAM, str(model), str(tmp_path / "rows.npz")]
    child = subprocess.Popen(
        [*command, "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    killer = threading.Timer(60, child.kill)
    killer.start()
    writer = os.open(tmp_path / "rows.npz", os.O_WRONLY)  # opens when the child reads
    try:
        assert child.poll() is None
        child.stdin.close()
        assert child.wait() == 1
    finally:
        killer.cancel()
        os.close(writer)
        child.stdout.close()


@linux
def test_files_leave_the_page_cache(tmp_path):
    files = [tmp_path / "model.onnx", tmp_path / "model.onnx.data"]
    for file in files:
        file.write_bytes(os.urandom(1 << 20))
    if not drop_from_cache(files):
        pytest.skip("this file system keeps its files in memory")
    assert not any(map(cold_start._in_cache, files))
    files[1].read_bytes()
    assert [cold_start._in_cache(file) for file in files] == [False, True]


@linux
def test_a_file_in_memory_cannot_be_dropped():
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        pytest.skip("no file system in memory")
    file = shm / f"qtool-test-{os.getpid()}"
    try:
        file.write_bytes(bytes(8192))
        assert not drop_from_cache([file])
    finally:
        file.unlink()


def test_a_system_without_the_advice_drops_nothing(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    assert not drop_from_cache([tmp_path])
