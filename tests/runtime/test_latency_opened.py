"""Models that are opened again for every round, and the verdict on noise; no clock decides here."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from qtool.runtime import latency
from qtool.runtime.latency import (
    MOST_LOST,
    RELEVANT,
    cores,
    interleaved,
    measure_opened,
    median_ratio,
    why_noisy,
)

QUIET = np.random.default_rng(0).normal(1, 0.005, 40)


class Loads:
    """Counts how often each model was loaded and how many were alive at once."""

    def __init__(self):
        self.log: list[str] = []

    def opener(self, name, cases=("b1", "b2")):
        def load():
            self.log.append(name)
            return dict.fromkeys(cases, lambda: None)

        return load


def test_every_round_opens_every_model_again_in_turns():
    loads = Loads()
    names = ("original", "prepared", "int8")
    found = interleaved(
        {name: loads.opener(name) for name in names}, lambda name, case, call: name, rounds=6
    )
    assert set(found) == {"b1", "b2"}
    assert found["b1"] == {name: [name] * 6 for name in names}
    rounds = [tuple(loads.log[start : start + 3]) for start in range(0, 18, 3)]
    assert all(set(opened) == set(names) for opened in rounds)
    # Each pair of rounds is an order and its reverse, so no place in the order favours a model.
    assert [opened[::-1] for opened in rounds[::2]] == rounds[1::2]
    assert len(set(rounds)) > 2


def test_models_of_the_round_before_are_given_up_before_others_open():
    alive: set[int] = set()
    most = 0

    class Model:
        def __init__(self):
            nonlocal most
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self):
            alive.discard(id(self))

    openers = {name: lambda: {"case": Model()} for name in "abc"}
    interleaved(openers, lambda name, case, model: 0.0, rounds=5)
    assert most == 3


def test_cases_and_names_keep_their_times(monkeypatch):
    now = 0

    def moving(microseconds):
        def call():
            nonlocal now
            now += microseconds * 1000

        return call

    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: now)
    models = {
        "fp32": lambda: {1: moving(20), 8: moving(400)},
        "int8": lambda: {1: moving(10), 8: moving(100)},
    }
    advanced = []
    found = measure_opened(
        models, rounds=5, block_ms=1, advance=lambda: advanced.append(len(advanced))
    )
    rounds = {
        case: {name: t.rounds.tolist() for name, t in by.items()} for case, by in found.items()
    }
    assert rounds == {
        1: {"fp32": [20.0] * 5, "int8": [10.0] * 5},
        8: {"fp32": [400.0] * 5, "int8": [100.0] * 5},
    }
    assert len(found[1]["fp32"].calls) == 5 * 50
    assert len(found[8]["fp32"].calls) == 5 * 3
    assert len(advanced) == 5


@pytest.fixture
def switches(monkeypatch):
    """Preemptions as the test says: one more whenever ``next(pattern)`` is true."""

    def use(pattern):
        count = 0
        steps = iter(pattern)

        def preemptions():
            nonlocal count
            count += next(steps, False)
            return count

        monkeypatch.setattr(latency, "_preemptions", preemptions)

    return use


def test_disturbed_calls_do_not_enter_the_median_but_are_kept(switches, monkeypatch):
    times = iter([0, 10, 0, 900, 0, 30])  # microseconds; the second call is interrupted
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(times) * 1000)
    switches([False, False, True, False])
    block = latency._block(lambda: None, 3)
    timing = latency._timing([block])
    assert timing.calls.tolist() == [10, 900, 30]
    assert timing.rounds.tolist() == [20]
    assert (timing.preempted, timing.lost) == (pytest.approx(1 / 3), 0)


def test_a_block_without_an_undisturbed_call_is_lost(switches, monkeypatch):
    times = iter([0, 10, 0, 30])
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: next(times) * 1000)
    switches([False, True, True])
    timing = latency._timing([latency._block(lambda: None, 2)])
    assert timing.rounds.tolist() == [20]
    assert (timing.preempted, timing.lost) == (1, 1)


def test_a_quiet_machine_decides_both_ways():
    assert why_noisy(QUIET) == ""
    assert why_noisy(QUIET * 1.1) == ""


def test_a_wide_interval_around_one_is_noise():
    spread = np.tile([0.8, 1.25], 20)
    found = median_ratio(spread)
    assert found.low < 1 < found.high
    assert "excludes neither equal speed nor a difference of 5%" in why_noisy(spread)


def test_a_wide_interval_beside_one_decides():
    assert why_noisy(np.tile([3.0, 4.0], 20)) == ""


def test_halves_that_contradict_each_other_are_noise():
    drifting = np.concatenate([QUIET[:20], 1.2 * QUIET[20:]])
    assert why_noisy(drifting).startswith("the ratio drifted: the two halves of the rounds say 0.9")
    assert why_noisy(drifting[::-1]).startswith("the ratio drifted")


def test_halves_that_differ_too_little_to_matter_are_no_noise():
    step = np.concatenate([QUIET[:20], (1 + RELEVANT / 2) * QUIET[20:]])
    assert why_noisy(step) == ""


def test_lost_rounds_are_noise():
    assert why_noisy(QUIET, MOST_LOST) == ""
    assert why_noisy(QUIET, 0.4) == (
        "in 40% of the rounds another process took the core in every call of a block"
    )


@given(st.floats(0.01, 100), st.integers(5, 40))
def test_rounds_that_agree_are_never_noise(value, rounds):
    assert why_noisy(np.full(rounds, value)) == ""


# Conover, Practical Nonparametric Statistics (1999), and every table of the sign test.
@pytest.mark.parametrize(("count", "rank"), [(5, 1), (6, 1), (10, 2), (20, 6), (25, 8), (40, 14)])
def test_ranks_of_the_exact_interval_of_a_median(count, rank):
    assert latency._values_outside(count) == rank - 1
    tail = binom.cdf(rank - 1, count, 0.5)
    assert tail <= 0.025 or rank == 1
    assert binom.cdf(rank, count, 0.5) > 0.025


def test_the_interval_is_never_narrower_than_the_exact_one():
    ratios = np.arange(1.0, 41.0)
    found = median_ratio(ratios)
    assert found.low <= 14
    assert found.high >= 27


def test_the_interval_covers_a_median_of_heavy_tails():
    generator = np.random.default_rng(3)
    samples = np.exp(0.01 * generator.standard_t(2, (400, 40)))
    found = [median_ratio(sample) for sample in samples]
    assert np.mean([one.low <= 1 <= one.high for one in found]) >= 0.95


def test_a_model_that_is_interrupted_while_it_is_learnt_has_no_shorter_blocks(monkeypatch):
    durations = iter([*[10_000] * 4, 50_000_000, *[10_000] * 1000])
    now = 0

    def call():
        nonlocal now
        now += next(durations)

    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: now)
    assert latency._calls_per_block(call, 1.0) == 100


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_cores_are_counted_and_given_back():
    before = os.sched_getaffinity(0)
    with cores(1) as found:
        assert found == 1
        assert os.sched_getaffinity(0) == {min(before)}
        with cores(4) as fewer:
            assert fewer == 1
    with cores(10_000) as found:
        assert found == len(before)
    assert os.sched_getaffinity(0) == before
