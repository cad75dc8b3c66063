from __future__ import annotations

import threading

import numpy as np
import pytest

from qtool.runtime import throughput
from qtool.runtime.throughput import ROUNDS, sustained


def test_sessions_run_at_once_and_their_rates_add_up(monkeypatch):
    """A thread may go on only when all of them are in a call."""
    meeting = threading.Barrier(3, timeout=10)
    models = {"int8": lambda: {"case": [meeting.wait] * 3}}
    advanced = []
    found = sustained(models, seconds=0, advance=lambda: advanced.append(1))["case"]["int8"]
    assert found.shape == (ROUNDS,)
    assert (found > 0).all()
    assert len(advanced) == ROUNDS


def test_the_rate_is_calls_over_the_time_they_took(monkeypatch):
    now = 0.0

    def call():
        nonlocal now
        now += 0.25

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now)
    found = sustained({"fp32": lambda: {1: [call]}}, seconds=20.0)  # rounds of one second
    np.testing.assert_allclose(found[1]["fp32"], 4)
    now = 0.0
    found = sustained({"fp32": lambda: {1: [call]}}, seconds=2.0)  # a call outlasts a round
    np.testing.assert_allclose(found[1]["fp32"], 4)


def test_a_call_that_fails_ends_the_measurement():
    def broken():
        raise ValueError("no such code")

    with pytest.raises(ValueError, match="no such code"):
        sustained({"int8": lambda: {1: [lambda: None, broken]}}, seconds=0)
