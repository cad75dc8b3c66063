"""What lies in the folder that a worker is called with, and what it leaves there.

A worker is a script that runs in the environment of one tool: ``python WORKER.py FOLDER``. It reads
``fp32.onnx``, the calibration rows (``rows.npz``) and ``job.json``, and writes ``int8.onnx``. When
it asks for the accuracy of a model, it writes the model's outputs for some of the rows to
``outputs.npz``, the line ``JUDGE`` to standard output, and reads a number from standard input.
What it raises is the reason why there is no model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FP32, ROWS, JOB, INT8, OUTPUTS = "fp32.onnx", "rows.npz", "job.json", "int8.onnx", "outputs.npz"
JUDGE = "judge outputs.npz"


@dataclass(frozen=True)
class Job:
    """What a tool is asked for.

    Attributes:
        folder: where everything lies.
        rows: input → calibration rows.
        setting: how the tool is used; each worker has its own.
        max_drop: how much worse the metric may become, in its unit.
    """

    folder: Path
    rows: dict[str, NDArray[Any]]
    setting: str
    max_drop: float

    @property
    def fp32(self) -> Path:
        """The model to quantize."""
        return self.folder / FP32

    @property
    def int8(self) -> Path:
        """Where the quantized model belongs."""
        return self.folder / INT8

    def batches(self, batch_rows: int, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yields the rows, at most ``limit`` of them, ``batch_rows`` at a time."""
        count = len(next(iter(self.rows.values())))
        for start in range(0, min(count, limit or count), batch_rows):
            yield {name: array[start : start + batch_rows] for name, array in self.rows.items()}

    def judged(self, places: NDArray[np.int64], outputs: NDArray[Any]) -> float:
        """Returns the metric, higher is better, of a model's first output for some of the rows.

        Args:
            places: of these rows among all, int64 (some,).
            outputs: (some, …).

        Returns:
            NaN where the metric is not defined, as on rows of one class.
        """
        np.savez(self.folder / OUTPUTS, places=places, outputs=outputs)
        sys.stdout.write(f"{JUDGE}\n")
        sys.stdout.flush()
        return float(sys.stdin.readline())


def read_job() -> Job:
    """Returns the job in the folder that the command line names."""
    folder = Path(sys.argv[1])
    rows = dict(np.load(folder / ROWS))
    return Job(folder, rows, **json.loads((folder / JOB).read_text(encoding="utf-8")))
