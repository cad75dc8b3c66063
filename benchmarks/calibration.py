"""Calibration of a Transformer encoder (6 layers, width 384, 128 steps): time and memory.

qtool observes the inputs of the 25 linear layers that it quantizes, with full statistics, and finds
their ranges by MSE, entropy and percentile. The peers are the calibrators of ONNX Runtime's
``quantize_static``, which observe all tensors and keep every value for the histogram methods. One
core, one thread, one sample at a time. Every pass is a process of its own. Time counts from loading
the model into the runtime to the ranges, divided by the time of loading and running the FP32 model
over the same samples, which takes turns with it. Memory is the peak of the process above that of
the FP32 run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from block_models import BLOCKS
from harness import BENCHMARKS, Row, arguments, report

from qtool.graph.model_file import write_model
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.latency import one_core

CASE = "encoder-d384x6-s128"
SAMPLES = (64, 1024, 16_384)
QTOOL = ("qtool-mse", "qtool-entropy", "qtool-percentile")
PEERS = ("ort-minmax", "ort-percentile", "ort-entropy")
PEER_SAMPLES = 64
"""More need more memory than most machines have: 47 MB per sample."""
ROUNDS = 5
"""Of the smallest sample; larger ones average by themselves."""


@dataclass(frozen=True)
class Measured:
    """What one pass took."""

    seconds: float
    peak_mb: float


def main() -> None:
    """Runs the passes and reports their rows."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--samples",
        type=int,
        nargs="+",
        default=SAMPLES,
        metavar="N",
        help=f"how many samples, of {', '.join(map(str, SAMPLES))} by default",
    )
    given = parser.parse_args()
    counts, rounds = ([2], 1) if given.quick else (given.samples, ROUNDS)
    with tempfile.TemporaryDirectory() as directory:
        model = Path(directory) / "model.onnx"
        write_model(model, prepare(BLOCKS[CASE]().model))
        rows = [row for count in counts for row in calibration_rows(model, count, rounds)]
    report(rows, given.json)


def calibration_rows(model: Path, samples: int, rounds: int) -> list[Row]:
    """Returns the rows of one number of samples.

    Args:
        model: the prepared FP32 model.
        samples: rows of data.
        rounds: how often each pass runs where there are few samples.
    """
    names = (*QTOOL, *PEERS) if samples <= PEER_SAMPLES else QTOOL
    turns = rounds if samples <= PEER_SAMPLES else 1
    rows: list[Row] = []
    with one_core(True):
        for name in names:
            pairs = [
                (measure("inference", model, samples), measure(name, model, samples))
                for _ in range(turns if name in QTOOL else 1)
            ]
            rows += _rows(name, samples, pairs)
    return rows


def measure(name: str, model: Path, samples: int) -> Measured:
    """Runs one pass in a process of its own, on the cores of this one."""
    script = BENCHMARKS / "calibration_pass.py"
    command = [sys.executable, str(script), name, str(model), str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()}")
    return Measured(**json.loads(done.stdout))


def _rows(name: str, samples: int, pairs: list[tuple[Measured, Measured]]) -> list[Row]:
    times = [own.seconds / inference.seconds for inference, own in pairs]
    memory = [own.peak_mb - inference.peak_mb for inference, own in pairs]
    case, peer = f"{CASE}-{samples}", name
    if name in QTOOL:
        case, peer = f"{case}-{name.removeprefix('qtool-')}", "qtool"
    took = np.median([own.seconds for _, own in pairs])
    told = f"{took:.1f} s, {took / samples * 1000:.1f} ms per sample"
    peak = f"peak {np.median([own.peak_mb for _, own in pairs]):.0f} MB"
    return [
        Row(case, "time_over_inference", float(np.median(times)), "x", peer, told),
        Row(case, "memory_over_inference_mb", float(np.median(memory)), "MB", peer, peak),
    ]


if __name__ == "__main__":
    main()
