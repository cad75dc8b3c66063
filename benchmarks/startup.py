"""How long qtool takes when there is little to do: help, a config error, doctor, nothing to redo.

Wall time of the whole process on one core, the median of rounds in which the commands take turns.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import PROJECT, Row, arguments, report

from qtool.runtime.latency import one_core

CONFIG = PROJECT / "configs" / "fraud_onnx.yaml"  # a trained ONNX model: nothing to train


def main() -> None:
    """Times the commands and reports their rows."""
    given = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as directory:
        report(startup_rows(Path(directory), rounds=2 if given.quick else 15), given.json)


def startup_rows(run_dir: Path, rounds: int) -> list[Row]:
    """Returns one row per command.

    Args:
        run_dir: empty; one model is quantized there first.
        rounds: how often every command starts.
    """
    quantize = ["quantize", str(CONFIG), "--run-dir", str(run_dir)]
    start(quantize)
    # Case → arguments and the exit code that shows that the command did what is timed.
    commands = {
        "help": (["--help"], 0),
        "config-error": (["quantize", str(CONFIG), "--set", "quantization.methode=static"], 3),
        "doctor": (["doctor"], 0),
        "current-quantize": (quantize, 0),
    }
    seconds: dict[str, list[float]] = {case: [] for case in commands}
    with one_core(True):
        for _ in range(rounds):
            for case, (words, exit_code) in commands.items():
                seconds[case].append(start(words, exit_code))
    return [_row(case, times) for case, times in seconds.items()]


def start(words: list[str], exit_code: int = 0) -> float:
    """Runs qtool; returns the wall time in seconds.

    Raises:
        RuntimeError: it ended with another exit code.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "qtool", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    elapsed = time.perf_counter() - started
    if done.returncode != exit_code:
        raise RuntimeError(f"qtool {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return elapsed


def _row(case: str, times: list[float]) -> Row:
    low, median, high = np.percentile(times, [25, 50, 75])
    told = f"quartiles {low:.2f} to {high:.2f} of {len(times)} starts"
    return Row(case, "startup_s", float(median), "s", notes=told)


if __name__ == "__main__":
    main()
