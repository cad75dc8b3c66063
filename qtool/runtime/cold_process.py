"""One cold start: loads a model, runs it once, prints what it took. ``cold_start.py`` starts it.

Nothing is imported but ONNX Runtime, which a serving process needs anyway. stdin is a pipe that
nobody writes to: it ends with the process that holds the other end, and so does this one.

Usage: python -m qtool.runtime.cold_process MODEL ROWS.npz THREADS
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

FATAL_ONLY = 4
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Sets the largest resident memory to the present one (Linux, proc_pid_clear_refs(5)).

``getrusage`` tells no such peak: its figure starts with that of the parent.
"""


def main() -> None:
    """Prints ``load_ms``, ``first_us`` and ``peak_bytes`` (null where it is not known) as JSON."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    model, rows, threads = sys.argv[1:]
    with np.load(rows) as file:
        names, *arrays = file.values()
    feeds = dict(zip(names.tolist(), arrays, strict=True))
    options = ort.SessionOptions()  # as qtool.runtime.sessions.Session, whose imports are larger
    options.intra_op_num_threads = int(threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = FATAL_ONLY
    before = _resident_before()
    started = time.perf_counter()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter()
    session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
    ended = time.perf_counter()
    found = {
        "load_ms": (loaded - started) * 1e3,
        "first_us": (ended - loaded) * 1e6,
        "peak_bytes": None if before is None else _status_bytes("VmHWM") - before,
    }
    sys.stdout.write(json.dumps(found))


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin, whose lock no thread may hold at exit
    os._exit(1)


def _resident_before() -> int | None:
    """Returns the resident memory in bytes, where the system also tells its later peak."""
    try:
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
        return _status_bytes("VmRSS")
    except (OSError, LookupError):
        return None


def _status_bytes(key: str) -> int:
    values = dict(line.split(":", 1) for line in STATUS.read_text(encoding="ascii").splitlines())
    return int(values[key].split()[0]) * 1024


if __name__ == "__main__":
    main()
