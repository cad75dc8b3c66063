"""The peers' tools, each in an environment of its own, and what becomes of a model there.

An environment is made on demand with ``venv`` and ``pip`` and kept for the next run. A tool that
cannot be installed, fails, takes too long or leaves nothing that can be read is no error: it is
skipped with the reason. How a worker is called is told in ``peer_workers/job.py``.

Seen with Python 3.11: all environments below can be installed from PyPI. Quark does not declare
that it needs torch and ONNX Runtime; its own command line asks for ONNX Runtime 1.28 at most. Where
pip finds no CPU build of torch, it takes the one with CUDA: set ``PIP_EXTRA_INDEX_URL``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
from harness import BENCHMARKS
from numpy.typing import NDArray
from peer_workers.job import FP32, INT8, JOB, JUDGE, OUTPUTS, ROWS

WORKERS = BENCHMARKS / "peer_workers"
INSTALLED, LOG = "installed.txt", "log.txt"
INSTALL_LIMIT_S = 1800
LONGEST_REASON = 160
JudgeRows = Callable[[NDArray[np.int64], NDArray[Any]], float]
"""Places of calibration rows, a model's first output for them → the metric, higher is better."""


@dataclass(frozen=True)
class Peer:
    """A tool with one setting.

    Attributes:
        worker: script in ``peer_workers``.
        environment: key of ``REQUIREMENTS``.
        setting: see the worker.
        dynamic: the scores of its models depend on the batch.
    """

    worker: str
    environment: str
    setting: str
    dynamic: bool = False


@dataclass(frozen=True)
class Asked:
    """What every tool gets.

    Attributes:
        fp32: the model.
        rows: input → calibration rows.
        max_drop: how much worse the metric may become, in its unit.
        judge: of a model on these rows.
    """

    fp32: Path
    rows: Mapping[str, NDArray[Any]]
    max_drop: float
    judge: JudgeRows


@dataclass(frozen=True)
class Made:
    """A quantized model, and how long the tool took."""

    model: Path
    seconds: float


@dataclass(frozen=True)
class Skipped:
    """Why there is no model."""

    reason: str


REQUIREMENTS: dict[str, tuple[str, ...]] = {
    # Symbolic shapes, which its pre-processing infers, need sympy.
    "onnxruntime": ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy==1.14.0"),
    "nncf": ("nncf==3.4.0", "onnxruntime==1.31.1", "onnx==1.23.2"),
    "quark": ("amd-quark==0.13", "onnxruntime==1.28.0", "onnx==1.22.0", "torch==2.13.0"),
}
PEERS: dict[str, Peer] = {
    "ort-static": Peer("ort_worker.py", "onnxruntime", "static"),
    "ort-static-u8s8": Peer("ort_worker.py", "onnxruntime", "static: u8s8"),
    "ort-static-channels": Peer("ort_worker.py", "onnxruntime", "static: u8s8 per channel"),
    "ort-static-layers": Peer(
        "ort_worker.py", "onnxruntime", "static: u8s8 per channel, layers only"
    ),
    "ort-dynamic": Peer("ort_worker.py", "onnxruntime", "dynamic", dynamic=True),
    "ort-dynamic-prepared": Peer("ort_worker.py", "onnxruntime", "dynamic: defaults", dynamic=True),
    "ort-dynamic-channels": Peer(
        "ort_worker.py", "onnxruntime", "dynamic: per channel", dynamic=True
    ),
    "ort-dynamic-matmul": Peer(
        "ort_worker.py", "onnxruntime", "dynamic: per channel, MatMul only", dynamic=True
    ),
    "nncf": Peer("nncf_worker.py", "nncf", "performance"),
    "nncf-mixed": Peer("nncf_worker.py", "nncf", "mixed"),
    "quark": Peer("quark_worker.py", "quark", "percentile"),
    "quark-adaround": Peer("quark_worker.py", "quark", "percentile, adaround"),
}


def interpreter(requirements: tuple[str, ...], folder: Path) -> Path | Skipped:
    """Returns the Python of the environment in ``folder``, which is made where it is not there.

    Args:
        requirements: pinned packages, as pip reads them.
        folder: of this environment alone; one with other packages is made again.
    """
    python, installed = folder / "bin" / "python", folder / INSTALLED
    wanted = "\n".join(requirements)
    if installed.is_file() and installed.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    pip = (str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for command in ((sys.executable, "-m", "venv", str(folder)), (*pip, *requirements)):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=INSTALL_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return Skipped(f"cannot be installed: {INSTALL_LIMIT_S} s are over")
        if done.returncode != 0:
            return Skipped(f"cannot be installed: {_reason(done.stdout + done.stderr)}")
    installed.write_text(wanted, encoding="utf-8")
    return python


def quantized(
    peer: Peer, python: Path, asked: Asked, folder: Path, limit_s: float
) -> Made | Skipped:
    """Returns what a tool makes of a model.

    Args:
        peer: the tool.
        python: of its environment.
        asked: model and rows.
        folder: an empty one, which keeps what the tool wrote and its log.
        limit_s: after this many seconds it is ended.
    """
    shutil.copy(asked.fp32, folder / FP32)
    np.savez(folder / ROWS, **asked.rows)  # type: ignore[arg-type]
    job = {"setting": peer.setting, "max_drop": asked.max_drop}
    (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
    started = time.monotonic()
    status = _run([str(python), str(WORKERS / peer.worker), str(folder)], asked, folder, limit_s)
    seconds = time.monotonic() - started
    if seconds >= limit_s:
        return Skipped(f"takes more than {limit_s:g} s")
    if status != 0:
        told = (folder / LOG).read_text(encoding="utf-8", errors="replace")
        return Skipped(_reason(told) or f"ended with status {status}")
    if not (folder / INT8).is_file():
        return Skipped("wrote no model")
    return Made(folder / INT8, seconds)


def _run(command: list[str], asked: Asked, folder: Path, limit_s: float) -> int:
    """Runs a worker, and answers it; returns its exit status."""
    # One thread: on busy cores several of Quark's wait for each other (AdaRound: 205 s, not 29 s).
    environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS), "OMP_NUM_THREADS": "1"}
    with (
        (folder / LOG).open("w", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            errors="replace",
            cwd=folder,  # where some tools leave files
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        limit = Timer(limit_s, lambda: os.killpg(process.pid, signal.SIGKILL))
        limit.start()
        try:
            for line in process.stdout:
                if line.strip() == JUDGE:
                    found = np.load(folder / OUTPUTS)
                    process.stdin.write(f"{asked.judge(found['places'], found['outputs'])}\n")
                    process.stdin.flush()
            return process.wait()
        finally:
            limit.cancel()


def _reason(log: str) -> str:
    """Returns the last line of a log that names an error, or else the last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.partition(" ")[0].lower()]
    return (errors or lines or [""])[-1][:LONGEST_REASON]
