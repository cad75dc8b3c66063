"""One pass over calibration samples, in a process of its own: prints seconds and peak memory.

``calibration.py`` starts it. What is timed begins with the prepared model on disk and ends with the
ranges; imports are not timed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from qtool.config.quantization import Observer, PercentileObserver
from qtool.runtime.sessions import Session

SHAPE = (128, 384)
POOL = 64
"""Different samples; a pass over more sees them again, so that no time goes into making them."""
Sample = dict[str, NDArray[np.float32]]
Reader = Iterator[Sample]


def samples(count: int) -> Reader:
    """Yields ``count`` samples of one row."""
    pool = np.random.default_rng(0).standard_normal((POOL, *SHAPE), dtype=np.float32)
    for index in range(count):
        yield {"x": pool[index % POOL][None]}


def inference(model: Path, count: int) -> None:
    """Runs the FP32 model, one sample at a time: its fastest batch size here."""
    session = Session(model, "FP32")
    for sample in samples(count):
        session.run(sample)


def qtool(model: Path, count: int, observed: Observer) -> None:
    """Finds the range of every activation that qtool quantizes."""
    from qtool.calibration.calibrate import observe, ranges
    from qtool.config.quantization import StaticQuantization
    from qtool.graph.model_file import read_model
    from qtool.graph.planner import make_plan
    from qtool.graph.targets import TARGETS
    from qtool.numerics.observers import observer
    from qtool.progress import SilentProgress

    graph = read_model(model)
    plan = make_plan(graph, "", StaticQuantization(method="static"), TARGETS["x86_amx"])
    seen = observe(graph, plan, samples(count), count, SilentProgress())
    assert len(ranges(plan, seen, observer(observed))) == len(plan.calibrated)


def onnxruntime(model: Path, count: int, method: str) -> None:
    """Finds the ranges of all tensors, as ``quantize_static`` does."""
    from onnxruntime.quantization.calibrate import (
        CalibrationDataReader,
        CalibrationMethod,
        create_calibrator,
    )

    class _Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = samples(count)

        def get_next(self) -> Sample | None:
            return next(self.samples, None)

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
        calibrator.collect_data(_Reader())
        calibrator.compute_data()


def passes() -> dict[str, Callable[[Path, int], None]]:
    """Returns all passes by name."""
    from qtool.config.quantization import EntropyObserver, MseObserver

    sections: dict[str, Observer] = {
        "mse": MseObserver(method="mse"),
        "entropy": EntropyObserver(method="entropy"),
        "percentile": PercentileObserver(method="percentile", percentile=99.99),
    }
    peers = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
    found: dict[str, Callable[[Path, int], None]] = {"inference": inference}
    for name, section in sections.items():
        found[f"qtool-{name}"] = lambda m, n, s=section: qtool(m, n, s)  # type: ignore[misc]
    for name, method in peers.items():
        found[f"ort-{name}"] = lambda m, n, k=method: onnxruntime(m, n, k)  # type: ignore[misc]
    return found


def main() -> None:
    """Runs the pass that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=int)
    given = parser.parse_args()
    run = passes()[given.name]
    run(given.model, 1)  # imports, and what libraries do once
    started = time.perf_counter()
    run(given.model, given.samples)
    seconds = time.perf_counter() - started
    kilobytes: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    json.dump({"seconds": seconds, "peak_mb": kilobytes / 1024}, sys.stdout)


if __name__ == "__main__":
    main()
