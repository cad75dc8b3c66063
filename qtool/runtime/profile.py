"""The time of every kernel of a model, from ONNX Runtime's own profile.

The profiler is inside of what it measures: it adds one or two microseconds to every kernel, more to
those with more inputs, and gives whole microseconds, cut off. So the calls of a session with the
profiler and of one without it alternate in short blocks, which meet the same noise: what the
kernels take together beyond the calls without it is what it adds, and is taken off in equal parts.
What other processes do on the core only adds, so the fastest block and the fastest third of the
times of a kernel count; the mean of these gives back the fraction that each of them lost.

Source: ONNX Runtime 1.31, ``SessionOptions.enable_profiling``: events of the category "Node" named
``<node>_kernel_time``, in the order of the calls.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.runtime.kernels import Kernel, kernels_of
from qtool.runtime.latency import MOST_LOST, measure, one_core
from qtool.runtime.sessions import Session

Inputs = Mapping[str, NDArray[Any]]

ROUNDS, BLOCK_MS = 6, 25.0
"""Blocks of each session, and how long one is at most."""
FEWEST, MOST = 4, 100
"""Calls of a block."""
MOST_EVENTS = 60_000
"""Of a profile, some hundred bytes each; the runtime drops what comes after a million."""
MOST_ADDED_US = 4.0
"""What the profiler adds to a kernel at most; what is missing beyond is noise."""
SMALLEST_US = 0.1
"""What a kernel takes at least: below it the profiler tells nothing."""
SUFFIX = "_kernel_time"


@dataclass(frozen=True)
class KernelTime:
    """One kernel of the optimised graph, and what it took in microseconds per call."""

    kernel: Kernel
    us: float


@dataclass(frozen=True)
class Profile:
    """Where the time of one model goes at one batch size.

    Attributes:
        kernels: in the order of the optimised graph.
        call_us: a whole call without the profiler; what its kernels do not explain is left out.
        floor_us: what a call takes beside its kernels.
        explained: kernels and floor over the measured call; 1 when nothing is amiss.
    """

    kernels: tuple[KernelTime, ...]
    call_us: float
    floor_us: float
    explained: float

    @property
    def amiss_us(self) -> float:
        """What the kernels' times missed those of a whole call by."""
        total = sum(timed.us for timed in self.kernels) + self.floor_us
        return abs(total - total / self.explained)


def profile(
    model: ir.Model, where: str, batches: Mapping[int, Inputs], threads: int
) -> dict[int, Profile]:
    """Returns the profile of ``model`` at each batch size.

    With one thread the process is bound to one core meanwhile.

    Args:
        model: in memory.
        where: what to call it in messages.
        batches: batch size → inputs.
        threads: of the session.

    Raises:
        ModelError: the runtime refuses the model, or fails on a batch.
    """
    kernels = kernels_of(model, where)
    with one_core(threads == 1):
        floor = _floor_us(threads)
        plain = Session(model, where, threads=threads)
        return {
            size: _profile(model, where, plain, inputs, threads, kernels, floor)
            for size, inputs in batches.items()
        }


def _profile(
    model: ir.Model,
    where: str,
    plain: Session,
    inputs: Inputs,
    threads: int,
    kernels: Sequence[Kernel],
    floor: float,
) -> Profile:
    with tempfile.TemporaryDirectory() as folder:
        profiled = Session(model, where, threads=threads, profiled_to=Path(folder) / "profile")
        calls = {"plain": plain.bound(inputs), "profiled": profiled.bound(inputs)}
        block_ms = _block_ms(calls["plain"], len(kernels))
        timing = measure(calls, rounds=ROUNDS, block_ms=block_ms)["plain"]
        events = json.loads(profiled.end_profiling().read_text(encoding="utf-8"))
    # Where others never left the core alone for a block, the fastest call counts.
    call_us = float(timing.calls.min() if timing.lost > MOST_LOST else timing.rounds.min())
    found = _kernel_us(events)
    sharing = Counter(kernel.name for kernel in kernels)
    every = [found.get(kernel.name, 0.0) / sharing[kernel.name] for kernel in kernels]
    left = _without_added(every, call_us - floor)
    total = sum(left) + floor
    timed = (KernelTime(kernel, us) for kernel, us in zip(kernels, left, strict=True))
    # What the kernels do not explain is another process's.
    return Profile(tuple(timed), min(call_us, total), floor, total / call_us)


def _without_added(every: Sequence[float], meant: float) -> list[float]:
    """Returns times of kernels without the same part of each, so that they add up to ``meant``."""
    low, high = 0.0, MOST_ADDED_US
    for _ in range(30):
        added = (low + high) / 2
        if sum(max(us - added, SMALLEST_US) for us in every) > meant:
            low = added
        else:
            high = added
    return [max(us - high, SMALLEST_US) for us in every]


def _block_ms(call: Callable[[], None], kernels: int) -> float:
    """Returns how long a block is: no more calls than a profile can hold."""
    times = []
    for _ in range(FEWEST):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    calls = min(MOST, max(FEWEST, MOST_EVENTS // (ROUNDS * max(kernels, 1))))
    return min(BLOCK_MS, calls * min(times) * 1e3)


def _floor_us(threads: int) -> float:
    """Returns what a call of a model with one trivial kernel takes."""
    x, y = (ir.val(name, ir.DataType.FLOAT, ir.Shape([1])) for name in ("x", "y"))
    graph = ir.Graph([x], [y], nodes=[ir.node("Neg", [x], outputs=[y])], opset_imports={"": 20})
    session = Session(ir.Model(graph, ir_version=10), "one kernel", threads=threads)
    call = session.bound({"x": np.zeros(1, np.float32)})
    return float(measure({"": call}, rounds=ROUNDS, block_ms=1.0)[""].rounds.min())


def _kernel_us(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of the shortest third of the durations of each kernel, by its node's name.

    Kernels that share a name are added up.
    """
    durations: dict[str, list[float]] = defaultdict(list)
    calls = 0
    for event in events:
        calls += event["name"] == "model_run"
        if event.get("cat") == "Node" and event["name"].endswith(SUFFIX):
            durations[event["name"].removesuffix(SUFFIX)].append(event["dur"])
    fastest, found = calls // 3, {}
    for name, listed in durations.items():
        by_call = np.array(listed, np.float64).reshape(calls, -1).sum(axis=1)
        found[name] = float(np.sort(by_call)[:fastest].mean())
    return found
