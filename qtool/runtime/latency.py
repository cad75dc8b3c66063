"""The latency protocol: interleaved blocks, ratios of block medians, a bootstrap interval.

Machines are shared and noisy: absolute times drift by tens of per cent within a minute, and what is
compared must meet the same noise. So short blocks of each model alternate, in a new random order
every round; each block is reduced to the median of its undisturbed calls, and the speed-up is the
median over rounds of the ratio within the round.
Rounds are resampled for the interval (percentile bootstrap, Efron 1979).
With one thread the process is bound to one core while it measures, where the system allows it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Timing:
    """Latencies of one model, microseconds: every call, and one median per round."""

    calls: NDArray[np.float64]
    rounds: NDArray[np.float64]


@dataclass(frozen=True)
class Ratio:
    """A ratio of latencies with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def measure(
    models: Mapping[str, Callable[[], None]], *, rounds: int, block_ms: float
) -> dict[str, Timing]:
    """Times each callable in interleaved blocks.

    Args:
        models: name → one inference.
        rounds: blocks per model.
        block_ms: rough duration of one block, milliseconds; at least 3 calls.
    """
    calls = {name: _calls_per_block(call, block_ms) for name, call in models.items()}
    times: dict[str, list[NDArray[np.float64]]] = {name: [] for name in models}
    medians: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    order = np.random.default_rng(0)
    for _ in range(rounds):
        # Who ran before leaves its mark on caches and clock frequency, so nobody always follows the
        # same.
        for name in order.permutation(names):
            call = models[name]
            call()  # the caches still hold the other model
            block, disturbed = np.empty(calls[name]), np.zeros(calls[name], bool)
            switches = _preemptions()
            for position in range(calls[name]):
                started = time.perf_counter_ns()
                call()
                block[position] = time.perf_counter_ns() - started
                before, switches = switches, _preemptions()
                disturbed[position] = switches > before
            times[name].append(block / 1e3)
            medians[name].append(np.median(block if disturbed.all() else block[~disturbed]) / 1e3)
    return {
        name: Timing(np.concatenate(blocks), np.array(medians[name]))
        for name, blocks in times.items()
    }


def _preemptions() -> int:
    """How often another process has taken the core from this one, where the system tells.

    On a busy core a call of some milliseconds is nearly always interrupted, and one of some
    microseconds hardly ever: without this, the slower model would look slower still.
    """
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def ratio(numerator: Timing, denominator: Timing) -> Ratio:
    """Returns the median over rounds of numerator / denominator, with its interval."""
    ratios = numerator.rounds / denominator.rounds
    generator = np.random.default_rng(0)
    resampled = generator.choice(ratios, (BOOTSTRAPS, len(ratios)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(ratios)), float(low), float(high))


@contextmanager
def one_core(enabled: bool) -> Iterator[None]:
    """Binds this process to one of its cores while the body runs, where the system can."""
    if not enabled or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _calls_per_block(call: Callable[[], None], block_ms: float) -> int:
    for _ in range(3):
        call()
    started = time.perf_counter_ns()
    for _ in range(3):
        call()
    once_ms = (time.perf_counter_ns() - started) / 3e6
    return max(3, int(block_ms / max(once_ms, 1e-6)))
