"""Latency of FP32 and INT8 at every batch size, against the faster of the two FP32 models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Latency
from qtool.evaluation.results import LatencyResult
from qtool.progress import Progress
from qtool.runtime.latency import measure, one_core, ratio
from qtool.runtime.sessions import Session

Inputs = Mapping[str, NDArray[Any]]


def measure_latency(
    fp32: Mapping[str, Path],
    int8: Path,
    rows: Inputs,
    batch_sizes: Sequence[int],
    threads: int,
    section: Latency,
    progress: Progress,
) -> tuple[LatencyResult, ...]:
    """Returns one result per batch size.

    Args:
        fp32: files of the candidates for the baseline by name; the one with the lowest median is
            used, per batch size.
        int8: file of the INT8 model.
        rows: real inputs, repeated where a batch needs more of them.
        batch_sizes: rows per call.
        threads: intra-op threads of each session; with one, the process is bound to one core.
        section: rounds and their length.
        progress: where it is shown.
    """
    sessions = {name: Session(model, name, threads=threads) for name, model in fp32.items()}
    sessions["int8"] = Session(int8, "int8", threads=threads)
    results = []
    with progress.task("latency", total=len(batch_sizes)) as task, one_core(threads == 1):
        for batch_size in batch_sizes:
            batch = {name: np.resize(x, (batch_size, *x.shape[1:])) for name, x in rows.items()}
            calls: dict[str, Callable[[], None]] = {
                name: session.bound(batch) for name, session in sessions.items()
            }
            results.append(_result(calls, batch_size, threads, section))
            task.advance(status=f"batch {batch_size}: {results[-1].speedup:.2f}x")
    return tuple(results)


def _result(
    calls: Mapping[str, Callable[[], None]], batch_size: int, threads: int, section: Latency
) -> LatencyResult:
    times = measure(calls, rounds=section.blocks, block_ms=section.block_ms)
    int8 = times.pop("int8")
    baseline = min(times, key=lambda name: float(np.median(times[name].rounds)))
    speedup = ratio(times[baseline], int8)
    return LatencyResult(
        batch_size=batch_size,
        threads=threads,
        fp32_model=baseline,
        fp32_us=tuple(times[baseline].calls.tolist()),
        int8_us=tuple(int8.calls.tolist()),
        speedup=speedup.value,
        speedup_low=speedup.low,
        speedup_high=speedup.high,
    )
