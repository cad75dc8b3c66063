"""How long commands that do little take: help, an error, a stage that is current.

Wall time of the whole process, median of several starts; the machine's noise is in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

import numpy as np
from harness import ROOT, Row, parser, report

CONFIG = ROOT / "configs" / "fraud_onnx.yaml"


def main() -> None:
    """Times each command."""
    arguments = parser(__doc__).parse_args()
    repeats = 3 if arguments.quick else 15
    with tempfile.TemporaryDirectory() as directory:
        current = ["quantize", str(CONFIG), "--run-dir", directory, "--quiet"]
        _start(current)
        commands = {
            "help": ["--help"],
            "config-error": ["run", str(CONFIG), "--set", "data.lable=x"],
            "doctor": ["doctor"],
            "quantize-current": current,
        }
        rows = [
            Row(name, "startup_s", float(np.median([_start(c) for _ in range(repeats)])), "s")
            for name, c in commands.items()
        ]
    report(rows, arguments.json)


def _start(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "qtool", *command], capture_output=True, check=False)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
