"""The latency protocol: interleaved blocks, fresh sessions, ratios of block medians, an interval.

Machines are shared and noisy: absolute times drift by tens of per cent within a minute, and what is
compared must meet the same noise. So short blocks of each model alternate; each block is reduced to
the median of its undisturbed calls, and the speed-up is the median over rounds of the ratio within
the round. Rounds are resampled for the interval (percentile bootstrap, Efron 1979).

Where a session's weights happen to lie in memory changes its speed by some per cent for as long as
it lives (Mytkowicz et al. 2009; measured: the interval from one pair of sessions of the same model
held 1 in 21 of 50 runs). So ``measure_opened`` opens every model again for every round (repetition
at the highest level that varies: Kalibera and Jones 2013). Beside a busy loop the rounds then have
no serial dependence (lag-1 correlation -0.04, mean of 50 runs) that a block bootstrap would have to
respect. The next round reverses the order in which models are opened and run, so that what a place
in the order is worth cancels. ``benchmarks/latency_protocol.py`` measures all this.

With one thread the process is bound to one core while it measures, where the system allows it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Call = Callable[[], None]
"""One inference."""
Case = TypeVar("Case")
Opened = TypeVar("Opened")
Found = TypeVar("Found")

BOOTSTRAPS = 2000
MOST_LEARNT = 100
"""Calls that are timed to learn how many fill a block."""
RELEVANT = 0.05
"""A difference of this share must be found or excluded, or the machine was too noisy."""
MOST_LOST = 0.25
"""Share of rounds with a block that has no undisturbed call. Interruptions meet the slower model
more often, and a quarter of such rounds can move the median ratio to the 33rd or the 67th
percentile of the others."""


@dataclass(frozen=True)
class Timing:
    """Latencies of one model, microseconds: every call, and one median per round.

    Attributes:
        calls: float64 (calls,).
        rounds: float64 (rounds,).
        preempted: share of the calls in which another process took the core.
        lost: share of the rounds in which it did so in every call.
    """

    calls: NDArray[np.float64]
    rounds: NDArray[np.float64]
    preempted: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True)
class Ratio:
    """A ratio of latencies with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class _Block:
    """Consecutive calls of one model: microseconds, and whether another process interfered."""

    calls: NDArray[np.float64]
    disturbed: NDArray[np.bool_]


def measure(models: Mapping[str, Call], *, rounds: int, block_ms: float) -> dict[str, Timing]:
    """Times each callable in interleaved blocks.

    Args:
        models: name → one inference.
        rounds: blocks per model.
        block_ms: rough duration of one block, milliseconds; at least 3 calls.
    """

    def opening(call: Call) -> Callable[[], Mapping[str, Call]]:
        return lambda: {"": call}

    opened = {name: opening(call) for name, call in models.items()}
    return measure_opened(opened, rounds=rounds, block_ms=block_ms)[""]


def measure_opened(
    models: Mapping[str, Callable[[], Mapping[Case, Call]]],
    *,
    rounds: int,
    block_ms: float,
    advance: Callable[[], None] = lambda: None,
) -> dict[Case, dict[str, Timing]]:
    """Times models in interleaved blocks, each opened again for every round.

    Args:
        models: name → what opens the model and returns case → one inference.
        rounds: blocks per model and case.
        block_ms: rough duration of one block, milliseconds; at least 3 calls.
        advance: called after every round.
    """
    counts = interleaved(
        models, lambda name, case, call: _calls_per_block(call, block_ms), rounds=1
    )
    blocks = interleaved(
        models,
        lambda name, case, call: _block(call, counts[case][name][0]),
        rounds=rounds,
        advance=advance,
    )
    return {
        case: {name: _timing(found) for name, found in by_name.items()}
        for case, by_name in blocks.items()
    }


def interleaved(
    models: Mapping[str, Callable[[], Mapping[Case, Opened]]],
    measured: Callable[[str, Case, Opened], Found],
    *,
    rounds: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[Case, dict[str, list[Found]]]:
    """Measures models in turns, each opened again for every round.

    Args:
        models: name → what opens the model and returns what is measured, the same cases each time;
            it is given up before the next round opens.
        measured: (name, case, what was opened) → what was found.
        rounds: how often each model is opened.
        advance: called after every round.
    """
    results: dict[Case, dict[str, list[Found]]] = {}
    for names in _orders(list(models), rounds):
        opened: dict[str, Mapping[Case, Opened]] = {}
        for name in names:
            opened[name] = models[name]()
        for case in opened[names[0]]:
            found = results.setdefault(case, {name: [] for name in models})
            for name in names:
                found[name].append(measured(name, case, opened[name][case]))
        advance()
    return results


def _orders(names: list[str], rounds: int) -> Iterator[list[str]]:
    """Yields one order of the names per round: a random one, its reverse, another random one.

    Who ran before leaves its mark on caches and clock frequency, and who was opened before on the
    memory that is left.
    """
    generator = np.random.default_rng(0)
    order = names
    for number in range(rounds):
        if number % 2:
            order = order[::-1]
        else:
            order = [names[index] for index in generator.permutation(len(names))]
        yield order


def _block(call: Call, count: int) -> _Block:
    call()  # the caches still hold the other model
    calls, disturbed = np.empty(count), np.zeros(count, bool)
    switches = _preemptions()
    for position in range(count):
        started = time.perf_counter_ns()
        call()
        calls[position] = time.perf_counter_ns() - started
        before, switches = switches, _preemptions()
        disturbed[position] = switches > before
    return _Block(calls / 1e3, disturbed)


def _timing(blocks: Sequence[_Block]) -> Timing:
    lost = [bool(block.disturbed.all()) for block in blocks]
    medians = [
        np.median(block.calls if none_left else block.calls[~block.disturbed])
        for block, none_left in zip(blocks, lost, strict=True)
    ]
    return Timing(
        calls=np.concatenate([block.calls for block in blocks]),
        rounds=np.array(medians),
        preempted=float(np.concatenate([block.disturbed for block in blocks]).mean()),
        lost=float(np.mean(lost)),
    )


def _preemptions() -> int:
    """How often another process has taken the core from this one, where the system tells.

    On a busy core a call of some milliseconds is nearly always interrupted, and one of some
    microseconds hardly ever: without this, the slower model would look slower still.
    """
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def ratio(numerator: Timing, denominator: Timing) -> Ratio:
    """Returns the median over rounds of numerator / denominator, with its interval."""
    return median_ratio(numerator.rounds / denominator.rounds)


def median_ratio(ratios: NDArray[np.float64]) -> Ratio:
    """Returns the median of one ratio per round, float64 (rounds,), with its interval.

    The bootstrap of a median covers a little less than it says (94 % of 100 comparisons of a model
    with itself), so its ends move out to the order statistics between which the median of any
    distribution lies with 95 % (Conover 1999, 3.2), or to the extremes of fewer than 6 rounds.
    """
    generator = np.random.default_rng(0)
    resampled = generator.choice(ratios, (BOOTSTRAPS, len(ratios)))
    low, high = np.percentile(np.median(resampled, axis=1), [2.5, 97.5])
    ordered, outside = np.sort(ratios), _values_outside(len(ratios))
    return Ratio(
        float(np.median(ratios)),
        float(min(low, ordered[outside])),
        float(max(high, ordered[-1 - outside])),
    )


def _values_outside(count: int) -> int:
    """Returns how many of ``count`` values may lie below an exact 95 % interval of the median."""
    tail, outside = 1, 0  # of the binomial distribution of the values below the median, x 2^count
    while tail + comb(count, outside + 1) <= 0.025 * 2**count:
        outside += 1
        tail += comb(count, outside)
    return outside


def why_noisy(ratios: NDArray[np.float64], lost: float = 0.0) -> str:
    """Returns why the machine was too noisy to compare two models; empty when it was not.

    It was, if one of these holds, in this order:

    1. more than ``MOST_LOST`` of the rounds are lost: their ratios are of disturbed calls;
    2. the first and the second half of the rounds contradict each other: their 95 % intervals lie
       apart (of one distribution about 1 in 200 pairs do) and their medians by more than
       ``RELEVANT``;
    3. the interval holds 1 as well as a difference of ``RELEVANT``, and so excludes neither.

    Args:
        ratios: one per round, float64 (rounds,).
        lost: share of the rounds in which every call of a block was disturbed, at most.
    """
    if lost > MOST_LOST:
        return f"in {lost:.0%} of the rounds another process took the core in every call of a block"
    halves = sorted(map(median_ratio, np.array_split(ratios, 2)), key=lambda half: half.value)
    small, large = halves
    if large.low > small.high and large.value > small.value * (1 + RELEVANT):
        told = " and ".join(f"{half.low:.3g} to {half.high:.3g}" for half in halves)
        return f"the ratio drifted: the two halves of the rounds say {told}"
    found = median_ratio(ratios)
    if found.low <= 1 <= found.high and max(found.high, 1 / found.low) >= 1 + RELEVANT:
        return (
            f"the interval, {found.low:.3g} to {found.high:.3g}, excludes neither equal speed nor "
            f"a difference of {RELEVANT:.0%}"
        )
    return ""


@contextmanager
def one_core(enabled: bool) -> Iterator[None]:
    """Binds this process to one of its cores while the body runs, where the system can."""
    if not enabled:
        yield
        return
    with cores(1):
        yield


@contextmanager
def cores(count: int) -> Iterator[int]:
    """Binds this thread, and threads that it starts, to some of its cores while the body runs.

    Yields how many of the ``count`` cores there are; all that the process may use where the system
    binds none.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield min(count, os.cpu_count() or 1)
        return
    before = os.sched_getaffinity(0)
    chosen = sorted(before)[:count]
    os.sched_setaffinity(0, chosen)
    try:
        yield len(chosen)
    finally:
        os.sched_setaffinity(0, before)


def _calls_per_block(call: Call, block_ms: float) -> int:
    """Returns how many of the fastest of some calls fill a block.

    Not of the mean: a process that takes the core just now would leave one model with blocks of
    three calls for the whole measurement, which still feel the change of models (measured: 11 of
    120 comparisons of a model with itself were off by 2 to 6 %, and none of 100 since by 0.6 %).
    """
    for _ in range(3):
        call()
    times: list[int] = []
    while len(times) < 3 or (sum(times) < block_ms * 1e6 and len(times) < MOST_LEARNT):
        started = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - started)
    return max(3, int(block_ms / max(min(times) / 1e6, 1e-6)))
