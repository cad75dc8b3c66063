"""Sustained throughput: sessions that run at once, each in its own thread, as a service runs them.

The runtime gives up Python's lock while it computes. Between two calls a thread needs it again, so
parallel sessions whose calls take a few microseconds hold one another up, INT8 more than FP32: a
service without Python gains more there than is measured here. Models take turns in short rounds,
with fresh sessions in each, as in the latency protocol (``latency.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import numpy as np
from numpy.typing import NDArray

from qtool.runtime.latency import Call, Case, interleaved

ROUNDS = 20


def sustained(
    models: Mapping[str, Callable[[], Mapping[Case, Sequence[Call]]]],
    *,
    seconds: float,
    advance: Callable[[], None] = lambda: None,
) -> dict[Case, dict[str, NDArray[np.float64]]]:
    """Returns calls per second, of all sessions together, float64 (ROUNDS,) by case and model.

    Args:
        models: name → what opens the sessions and returns case → one inference per session.
        seconds: how long each model runs in all, per case; a round lasts at least one call.
        advance: called after every round.
    """
    rates = interleaved(
        models,
        lambda name, case, calls: _rate(calls, seconds / ROUNDS),
        rounds=ROUNDS,
        advance=advance,
    )
    return {
        case: {name: np.array(found) for name, found in by_name.items()}
        for case, by_name in rates.items()
    }


def _rate(calls: Sequence[Call], seconds: float) -> float:
    with ThreadPoolExecutor(len(calls)) as pool:
        barrier = Barrier(len(calls))
        return sum(pool.map(partial(_session_rate, barrier=barrier, seconds=seconds), calls))


def _session_rate(call: Call, barrier: Barrier, seconds: float) -> float:
    barrier.wait()
    started = time.perf_counter()
    count, elapsed = 0, 0.0
    while elapsed < seconds or not count:
        call()
        count += 1
        elapsed = time.perf_counter() - started
    return count / elapsed
