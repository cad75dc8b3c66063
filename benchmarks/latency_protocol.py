"""The latency protocol on a noisy machine: does it find what is there, and nothing else?

A process on the same core wakes at irregular times, computes for some milliseconds and spoils the
caches, in phases of light and heavy load. Beside it, 50 runs of the protocol of ``qtool evaluate``
(40 rounds, blocks of 5 ms, one thread, batch 32) compare one MLP with its own copy
(``identical``), and with one whose last hidden layer is wider, so that it takes about 10 % longer
(``slower``; ``true_ratio`` is measured without the noise, in six times as many rounds).
``interval_holds_1`` is the share of runs whose 95 % interval holds 1: for identical models 45 of 50
or more in 96 % of such benchmarks, if the interval is right. ``no_difference``, ``difference`` and
``too_noisy`` are what the protocol says in words, where a difference below 1 % is none.
``sessions-kept`` are the identical models, loaded once per run and never again.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir
from harness import Row, arguments, report
from numpy.typing import NDArray

from qtool.evaluation.results import LatencyResult
from qtool.evaluation.speed import INT8, latency_result, open_calls
from qtool.graph.model_file import write_model
from qtool.runtime.latency import Call, Timing, measure, measure_opened, one_core

RUNS, ROUNDS, BLOCK_MS = 50, 40, 5.0
QUIET_ROUNDS = 6 * ROUNDS
BATCH, INPUTS, HIDDEN = 32, 64, 256
WIDTHS = range(256, 449, 16)
"""Of the last hidden layer of models that may be the slower one."""
SLOWDOWN = 1.10
BUSY_MS = 2.0
IDLE_MS = (1.0, 4.0, 20.0)
PHASE_S = 0.5
SPOILED_BYTES = 4 << 20
Opened = Callable[[], dict[int, Call]]


@dataclass(frozen=True)
class Run:
    """One run of the protocol: the result, and the ratio of every round."""

    result: LatencyResult
    ratios: NDArray[np.float64]


def main() -> None:
    """Finds the slower model, runs the protocol beside the noise and reports its rows."""
    given = arguments(__doc__ or "").parse_args()
    runs, quiet_rounds = (2, 6) if given.quick else (RUNS, QUIET_ROUNDS)
    with tempfile.TemporaryDirectory() as folder, one_core(True):
        base = mlp(Path(folder), HIDDEN)
        slow = slower(Path(folder), base, quiet_rounds)
        truth = compare({"fp32": opening(slow), INT8: opening(base)}, quiet_rounds)["fp32"].result
        with noise():
            found = [
                compare({"same": opening(base), "slow": opening(slow), INT8: opening(base)}, ROUNDS)
                for _ in range(runs)
            ]
            kept = [compare_kept(base) for _ in range(runs)]
    report(
        [
            *rows("identical", [run["same"] for run in found]),
            *rows("identical-sessions-kept", kept),
            Row("slower", "true_ratio", truth.speedup, "x", notes=_interval(truth)),
            *rows("slower", [run["slow"] for run in found]),
        ],
        given.json,
    )


def mlp(folder: Path, width: int) -> Path:
    """Writes an MLP whose last hidden layer has ``width`` units; returns its file."""
    generator = np.random.default_rng(0)
    value = x = ir.val("x", ir.DataType.FLOAT, ["batch", INPUTS])
    nodes, weights = [], []
    for number, shape in enumerate(pairwise((INPUTS, HIDDEN, HIDDEN, width, 1))):
        array = generator.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
        weights.append(ir.val(f"w{number}", const_value=ir.tensor(array, name=f"w{number}")))
        nodes.append(ir.node("MatMul", [value, weights[-1]]))
        nodes.append(ir.node("Relu", [nodes[-1].outputs[0]]))
        value = nodes[-1].outputs[0]
    value.name, value.type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 18})
    file = folder / f"mlp{width}.onnx"
    write_model(file, ir.Model(graph, ir_version=10))
    return file


def opening(file: Path) -> Opened:
    """Returns what loads a model and warms it up."""
    batch = np.random.default_rng(1).standard_normal((BATCH, INPUTS), np.float32)
    return partial(open_calls, {BATCH: {"x": batch}}, 1, file.name, file)


def slower(folder: Path, base: Path, rounds: int) -> Path:
    """Returns the model that is nearest to ``SLOWDOWN`` times the latency of ``base``."""
    files = {str(width): mlp(folder, width) for width in WIDTHS}
    models = {name: opening(file) for name, file in files.items()}
    times = measure_opened({**models, INT8: opening(base)}, rounds=rounds, block_ms=BLOCK_MS)[BATCH]
    ratios = {name: float(np.median(times[name].rounds / times[INT8].rounds)) for name in files}
    return files[min(ratios, key=lambda name: abs(ratios[name] - SLOWDOWN))]


def compare(models: dict[str, Opened], rounds: int) -> dict[str, Run]:
    """Runs the protocol once; every model is compared with ``int8``."""
    times = measure_opened(models, rounds=rounds, block_ms=BLOCK_MS)[BATCH]
    return {name: _run(times[name], times[INT8]) for name in times if name != INT8}


def compare_kept(base: Path) -> Run:
    """Runs the protocol once on two sessions of one model that are not opened again."""
    calls = {name: opening(base)()[BATCH] for name in ("same", INT8)}
    times = measure(calls, rounds=ROUNDS, block_ms=BLOCK_MS)
    return _run(times["same"], times[INT8])


def _run(fp32: Timing, int8: Timing) -> Run:
    return Run(latency_result({"fp32": fp32, INT8: int8}, BATCH, 1), fp32.rounds / int8.rounds)


@contextmanager
def noise() -> Iterator[None]:
    """Disturbs the cores of this process while the body runs."""
    process = multiprocessing.get_context("spawn").Process(
        target=disturb, args=(os.getpid(),), daemon=True
    )
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def disturb(parent: int) -> None:
    """Wakes at irregular times and computes, until ``parent`` is gone."""
    generator = np.random.default_rng()
    spoiled = np.zeros(SPOILED_BYTES, np.uint8)
    idle_ms, phase_end = 0.0, 0.0
    while os.getppid() == parent:
        now = time.perf_counter()
        if now > phase_end:
            idle_ms = float(generator.choice(IDLE_MS))
            phase_end = now + PHASE_S * generator.exponential()
        busy_until = now + BUSY_MS / 1e3 * generator.exponential()
        while time.perf_counter() < busy_until:
            spoiled += 1
        time.sleep(idle_ms / 1e3 * generator.exponential())


def rows(case: str, runs: Sequence[Run]) -> list[Row]:
    """Returns what the runs of one case found."""
    results = [run.result for run in runs]
    widths = [result.speedup_high / result.speedup_low - 1 for result in results]
    told = f"intervals {np.median(widths):.1%} wide (largest {max(widths):.1%})"
    said = [result.finding for result in results]
    differing = sum(finding in ("faster", "slower") for finding in said)
    holds = sum(result.speedup_low <= 1 <= result.speedup_high for result in results)
    above = sum(result.speedup_low > 1 for result in results)
    preempted = float(np.median([result.preempted for result in results]))
    return [
        _share(case, "interval_holds_1", holds, len(runs), told),
        _share(case, "interval_above_1", above, len(runs)),
        _share(case, "no_difference", said.count("no difference"), len(runs)),
        _share(case, "difference", differing, len(runs)),
        _share(case, "too_noisy", said.count("too noisy"), len(runs)),
        Row(case, "preempted_calls", preempted, "share", notes="median of the runs"),
        Row(case, "serial_correlation", _serial([run.ratios for run in runs]), "", notes="lag 1"),
    ]


def _share(case: str, metric: str, count: int, total: int, told: str = "") -> Row:
    counted = f"{count} of {total}"
    return Row(case, metric, count / total, "share", notes="; ".join(filter(None, [counted, told])))


def _serial(ratios: Sequence[NDArray[np.float64]]) -> float:
    """Returns the rank correlation of neighbouring rounds, the mean of all runs."""
    ranks = [np.argsort(np.argsort(run)) for run in ratios]
    return float(np.mean([np.corrcoef(run[1:], run[:-1])[0, 1] for run in ranks]))


def _interval(result: LatencyResult) -> str:
    return f"{result.speedup_low:.3f} to {result.speedup_high:.3f}"


if __name__ == "__main__":
    main()
