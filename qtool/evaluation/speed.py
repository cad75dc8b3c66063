"""Speed of FP32 and INT8: latency, throughput, cold starts; against the faster of two FP32 models.

Real inputs are repeated where a batch needs more rows than there are.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Latency
from qtool.evaluation.results import ColdStart, LatencyResult, ThroughputResult
from qtool.graph.model_file import model_files
from qtool.progress import Progress
from qtool.runtime.cold_start import Start, drop_from_cache, start, write_rows
from qtool.runtime.latency import (
    Call,
    Timing,
    cores,
    measure_opened,
    median_ratio,
    one_core,
    ratio,
    why_noisy,
)
from qtool.runtime.sessions import Session
from qtool.runtime.throughput import ROUNDS, sustained

Inputs = Mapping[str, NDArray[Any]]
T = TypeVar("T")
INT8 = "int8"
WARM_UP = 2
"""Calls of a new session before the protocol's own: the runtime plans its memory in the first."""
COLD_PROCESSES = 5
"""Of each model, with the files in the page cache, and as many without."""


def measure_latency(
    fp32: Mapping[str, Path],
    int8: Path,
    rows: Inputs,
    batch_sizes: Sequence[int],
    threads: int,
    section: Latency,
    progress: Progress,
) -> tuple[LatencyResult, ...]:
    """Returns one result per number of threads and batch size, in this order.

    Args:
        fp32: files of the candidates for the baseline by name; the one with the lowest median is
            used, per result.
        int8: file of the INT8 model.
        rows: real inputs.
        batch_sizes: rows per call.
        threads: intra-op threads of each session where ``section`` names none; with one, the
            process is bound to one core.
        section: rounds, their length, and numbers of threads.
        progress: where it is shown.
    """
    several = {INT8: int8}
    return compare_latency(fp32, several, rows, batch_sizes, threads, section, progress)[INT8]


def compare_latency(
    fp32: Mapping[str, Path],
    int8: Mapping[str, Path],
    rows: Inputs,
    batch_sizes: Sequence[int],
    threads: int,
    section: Latency,
    progress: Progress,
) -> dict[str, tuple[LatencyResult, ...]]:
    """``measure_latency`` of several INT8 models by name, whose blocks alternate in one run."""
    results: dict[str, list[LatencyResult]] = {name: [] for name in int8}
    counts = section.threads or [threads]
    with progress.task("latency", total=len(counts) * section.blocks) as task:
        for count in counts:
            opening = partial(open_calls, _batches(rows, batch_sizes), count)
            with one_core(count == 1):
                times = measure_opened(
                    {name: partial(opening, name, path) for name, path in {**fp32, **int8}.items()},
                    rounds=section.blocks,
                    block_ms=section.block_ms,
                    advance=task.advance,
                )
            for size in batch_sizes:
                baselines = {name: times[size][name] for name in fp32}
                for name, found in results.items():
                    one = {**baselines, INT8: times[size][name]}
                    found.append(latency_result(one, size, count))
            last = max((found[-1] for found in results.values()), key=lambda one: one.speedup)
            status = f"batch {last.batch_size}, {count} threads: {last.speedup:.2f}x"
            task.advance(0, status=status)
    return {name: tuple(found) for name, found in results.items()}


def latency_result(times: Mapping[str, Timing], batch_size: int, threads: int) -> LatencyResult:
    """Returns what the times of ``int8`` and of one or more FP32 models say."""
    int8 = times[INT8]
    candidates = [name for name in times if name != INT8]
    baseline = min(candidates, key=lambda name: float(np.median(times[name].rounds)))
    fp32 = times[baseline]
    speedup = ratio(fp32, int8)
    calls = [len(fp32.calls), len(int8.calls)]
    return LatencyResult(
        batch_size=batch_size,
        threads=threads,
        fp32_model=baseline,
        fp32_us=tuple(fp32.calls.tolist()),
        int8_us=tuple(int8.calls.tolist()),
        speedup=speedup.value,
        speedup_low=speedup.low,
        speedup_high=speedup.high,
        noisy=why_noisy(fp32.rounds / int8.rounds, min(fp32.lost + int8.lost, 1.0)),
        preempted=float(np.average([fp32.preempted, int8.preempted], weights=calls)),
    )


def measure_throughput(
    fp32: Mapping[str, Path],
    int8: Path,
    rows: Inputs,
    batch_sizes: Sequence[int],
    threads: int,
    section: Latency,
    progress: Progress,
) -> tuple[ThroughputResult, ...]:
    """Returns one result per number of parallel sessions and batch size, in this order.

    All sessions of all models are in memory at once. They are bound to as many cores as they have
    threads, where there are so many.

    Args:
        fp32: files of the candidates for the baseline by name; the one with the highest median is
            used, per result.
        int8: file of the INT8 model.
        rows: real inputs.
        batch_sizes: rows per call.
        threads: intra-op threads of each session.
        section: numbers of sessions, and seconds.
        progress: where it is shown.
    """
    results: list[ThroughputResult] = []
    batches = _batches(rows, batch_sizes)
    with progress.task("throughput", total=len(section.sessions) * ROUNDS) as task:
        for count in section.sessions:
            opening = partial(_parallel_calls, batches, threads, count)
            with cores(count * threads) as found:
                rates = sustained(
                    _models(fp32, int8, opening), seconds=section.seconds, advance=task.advance
                )
            results += [
                _throughput_result(rates[size], size, count, threads, found) for size in batch_sizes
            ]
            last = results[-1]
            status = f"batch {last.batch_size}, {count} sessions: {last.ratio:.2f}x"
            task.advance(0, status=status)
    return tuple(results)


def measure_cold(
    fp32: Path,
    int8: Path,
    rows: Inputs,
    batch_sizes: Sequence[int],
    threads: int,
    progress: Progress,
) -> tuple[ColdStart, ...]:
    """Returns the cold start of FP32 and of INT8, at the smallest batch size.

    Args:
        fp32: file of the model that is replaced.
        int8: file of the INT8 model.
        rows: real inputs.
        batch_sizes: rows per call.
        threads: intra-op threads of the session.
        progress: where it is shown.

    Raises:
        ModelError: a fresh process cannot load or run a model.
    """
    models = {"fp32": fp32, INT8: int8}
    cached: dict[str, list[Start]] = {name: [] for name in models}
    uncached: dict[str, list[Start]] = {name: [] for name in models}
    size = min(batch_sizes)
    with (
        tempfile.TemporaryDirectory() as folder,
        progress.task("cold start", total=COLD_PROCESSES * len(models)) as task,
        one_core(threads == 1),
    ):
        file = write_rows(Path(folder) / "rows.npz", _batches(rows, [size])[size])
        for number in range(COLD_PROCESSES):
            for name in list(models)[:: -1 if number % 2 else 1]:
                model, where = models[name], f"the {name.upper()} model"
                dropped = drop_from_cache(model_files(model))
                first = start(model, file, threads, where)
                if dropped:
                    uncached[name].append(first)
                cached[name].append(start(model, file, threads, where))
                task.advance()
    return tuple(_cold_start(name, cached[name], uncached[name], size) for name in models)


def _batches(rows: Inputs, batch_sizes: Sequence[int]) -> dict[int, Inputs]:
    return {
        size: {name: np.resize(array, (size, *array.shape[1:])) for name, array in rows.items()}
        for size in batch_sizes
    }


def _models(
    fp32: Mapping[str, Path], int8: Path, opening: Callable[[str, Path], T]
) -> dict[str, Callable[[], T]]:
    return {name: partial(opening, name, path) for name, path in {**fp32, INT8: int8}.items()}


def open_calls(
    batches: Mapping[int, Inputs], threads: int, name: str, path: Path
) -> dict[int, Call]:
    """Opens a model; returns one inference per batch size, past the calls that allocate memory."""
    session = Session(path, name, threads=threads)
    calls = {size: session.bound(batch) for size, batch in batches.items()}
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    return calls


def _parallel_calls(
    batches: Mapping[int, Inputs], threads: int, sessions: int, name: str, path: Path
) -> dict[int, list[Call]]:
    opened = [open_calls(batches, threads, name, path) for _ in range(sessions)]
    return {size: [calls[size] for calls in opened] for size in batches}


def _throughput_result(
    rates: Mapping[str, NDArray[np.float64]],
    batch_size: int,
    sessions: int,
    threads: int,
    found_cores: int,
) -> ThroughputResult:
    medians = {name: float(np.median(found)) for name, found in rates.items()}
    baseline = max((name for name in rates if name != INT8), key=lambda name: medians[name])
    ratios = rates[INT8] / rates[baseline]
    found = median_ratio(ratios)
    return ThroughputResult(
        batch_size=batch_size,
        sessions=sessions,
        threads=threads,
        fp32=medians[baseline] * batch_size,
        int8=medians[INT8] * batch_size,
        ratio=found.value,
        low=found.low,
        high=found.high,
        fp32_model=baseline,
        cores=found_cores,
        noisy=why_noisy(ratios),
    )


def _cold_start(
    name: str, cached: Sequence[Start], uncached: Sequence[Start], batch_size: int
) -> ColdStart:
    peaks = [found.peak_bytes for found in cached if found.peak_bytes is not None]
    dropped = len(uncached) == len(cached)
    return ColdStart(
        model=name,
        load_ms=median([found.load_ms for found in cached]),
        first_us=median([found.first_us for found in cached]),
        peak_bytes=int(median(peaks)) if peaks else None,
        processes=len(cached),
        batch_size=batch_size,
        uncached_load_ms=median([found.load_ms for found in uncached]) if dropped else math.nan,
        uncached_first_us=median([found.first_us for found in uncached]) if dropped else math.nan,
    )
