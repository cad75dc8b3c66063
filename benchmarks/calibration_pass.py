"""One pass over calibration samples, in a process of its own: prints seconds and peak memory.

``calibration.py`` starts it. What is timed begins with loading the model into the runtime and ends
with the ranges. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from qtool.config.quantization import Observer, PercentileObserver
from qtool.runtime.sessions import Session

SHAPE = (128, 384)
POOL = 64
"""Different samples; a pass over more sees them again, so that no time goes into making them."""
Sample = dict[str, NDArray[np.float32]]
Pass = Callable[[int], None]
"""Given a number of samples."""


def samples(count: int) -> Iterator[Sample]:
    """Yields ``count`` samples of one row."""
    pool = np.random.default_rng(0).standard_normal((POOL, *SHAPE), dtype=np.float32)
    for index in range(count):
        yield {"x": pool[index % POOL][None]}


def inference(model: Path) -> Pass:
    """Returns the run of the FP32 model, one sample at a time: its fastest batch size here."""

    def run(count: int) -> None:
        session = Session(model, "FP32")
        for sample in samples(count):
            session.run(sample)

    return run


def qtool(model: Path, section: Observer) -> Pass:
    """Returns the pass that finds the range of every activation that qtool quantizes."""
    from qtool.calibration.calibrate import observe, ranges
    from qtool.config.quantization import StaticQuantization
    from qtool.graph.model_file import read_model
    from qtool.graph.planner import make_plan
    from qtool.graph.targets import TARGETS
    from qtool.numerics.observers import observer
    from qtool.progress import SilentProgress

    graph = read_model(model)
    plan = make_plan(graph, "", StaticQuantization(method="static"), TARGETS["x86_amx"])

    def run(count: int) -> None:
        seen = observe(graph, plan, samples(count), count, SilentProgress())
        assert len(ranges(plan, seen, observer(section))) == len(plan.calibrated)

    return run


def onnxruntime(model: Path, method: str) -> Pass:
    """Returns the pass that finds the ranges of all tensors, as ``quantize_static`` does."""
    from onnxruntime.quantization.calibrate import (
        CalibrationDataReader,
        CalibrationMethod,
        create_calibrator,
    )

    class _Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, count: int) -> None:
            self.samples = samples(count)

        def get_next(self) -> Sample | None:
            return next(self.samples, None)

    def run(count: int) -> None:
        with tempfile.TemporaryDirectory() as directory:
            augmented = str(Path(directory) / "augmented.onnx")
            calibrator = create_calibrator(
                model,
                augmented_model_path=augmented,
                calibrate_method=CalibrationMethod[method],
            )
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            calibrator.infer_session = ort.InferenceSession(augmented, options)
            calibrator.collect_data(_Reader(count))
            calibrator.compute_data()

    return run


def passes() -> dict[str, Callable[[Path], Pass]]:
    """Returns what makes each pass from the file of the model, by name."""
    from qtool.config.quantization import EntropyObserver, MseObserver

    sections: dict[str, Observer] = {
        "mse": MseObserver(method="mse"),
        "entropy": EntropyObserver(method="entropy"),
        "percentile": PercentileObserver(method="percentile", percentile=99.99),
    }
    peers = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
    found: dict[str, Callable[[Path], Pass]] = {"inference": inference}
    for name, section in sections.items():
        found[f"qtool-{name}"] = lambda m, s=section: qtool(m, s)  # type: ignore[misc]
    for name, method in peers.items():
        found[f"ort-{name}"] = lambda m, k=method: onnxruntime(m, k)  # type: ignore[misc]
    return found


def main() -> None:
    """Runs the pass that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=int)
    given = parser.parse_args()
    run = passes()[given.name](given.model)
    with redirect_stdout(sys.stderr):  # ONNX Runtime's calibrators print what they do
        run(1)  # imports, and what libraries do once
        started = time.perf_counter()
        run(given.samples)
        seconds = time.perf_counter() - started
    json.dump({"seconds": seconds, "peak_mb": peak_mb()}, sys.stdout)


def peak_mb() -> float:
    """Returns the most memory that this process has had.

    Not getrusage: a process starts with the peak of the one that started it there.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    main()
