"""The arithmetic of the protocol; nothing here depends on how long anything takes."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.runtime import latency
from qtool.runtime.latency import Timing, measure, one_core, ratio


def timing(*rounds):
    return Timing(np.array(rounds, float), np.array(rounds, float))


def test_the_ratio_is_the_median_over_rounds():
    found = ratio(timing(2, 4, 30), timing(1, 2, 3))  # 2, 2, 10 in their own rounds
    assert found.value == 2
    assert (found.low, found.high) == (2, 10)


def test_noise_that_meets_both_models_cancels():
    noise = np.array([1, 5, 0.3, 2, 9])
    found = ratio(timing(*(3 * noise)), timing(*noise))
    np.testing.assert_allclose([found.value, found.low, found.high], 3)


rounds = st.lists(st.floats(0.1, 1e4), min_size=5, max_size=20)


@given(rounds, st.floats(0.1, 10))
def test_the_interval_holds_the_value_and_scales(times, factor):
    base = timing(*([1.0] * len(times)))
    found, scaled = ratio(timing(*times), base), ratio(timing(*(factor * t for t in times)), base)
    assert min(times) <= found.low <= found.value <= found.high <= max(times)
    np.testing.assert_allclose(
        [scaled.value, scaled.low, scaled.high],
        [factor * found.value, factor * found.low, factor * found.high],
    )


def test_the_same_times_give_the_same_interval():
    times = timing(3, 1, 4, 1, 5, 9, 2, 6), timing(2, 7, 1, 8, 2, 8, 1, 8)
    assert ratio(*times) == ratio(*times)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when a model under test moves it; microseconds."""

    class Clock:
        now = 0

        def moves(self, microseconds, log, name):
            def call():
                log.append(name)
                self.now += int(microseconds * 1000)

            return call

    clock = Clock()
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: clock.now)
    return clock


def test_blocks_alternate_and_change_their_order(clock):
    log = []
    models = {name: clock.moves(1000, log, name) for name in "ab"}
    measure(models, rounds=8, block_ms=3)
    del log[:12]  # each model ran six times to learn how long it takes
    blocks = ["".join(log[start : start + 4]) for start in range(0, len(log), 4)]
    # One call to warm the caches and three timed ones, both models in every round, in both orders.
    rounds = {(first, second) for first, second in zip(blocks[::2], blocks[1::2], strict=True)}
    assert rounds == {("aaaa", "bbbb"), ("bbbb", "aaaa")}


def test_times_are_microseconds_by_call_and_by_round(clock):
    found = measure(
        {"fast": clock.moves(250, [], ""), "slow": clock.moves(1000, [], "")}, rounds=5, block_ms=2
    )
    assert found["fast"].calls.shape == (5 * 8,)
    assert found["slow"].calls.shape == (5 * 3,)  # never fewer than three calls
    assert set(found["fast"].calls) == set(found["fast"].rounds) == {250}
    assert found["slow"].rounds.tolist() == [1000] * 5
    assert ratio(found["slow"], found["fast"]).value == 4


def test_a_model_too_fast_for_the_clock_is_still_timed(clock):
    found = measure({"none": clock.moves(0, [], "")}, rounds=1, block_ms=0.001)
    assert set(found["none"].calls) == {0}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_one_core_is_given_back():
    before = os.sched_getaffinity(0)
    with one_core(True):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before
    with pytest.raises(ZeroDivisionError), one_core(True):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before
    with one_core(False):
        assert os.sched_getaffinity(0) == before


def test_a_system_without_affinity_measures_anyway(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with one_core(True):
        pass
