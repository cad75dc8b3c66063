from __future__ import annotations

import numpy as np
import pytest
from support.graphs import mlp
from support.quantizing import quantized

from qtool.graph.prepare.pipeline import prepare
from qtool.runtime import profile as profiles
from qtool.runtime.kernels import kernels_of
from qtool.runtime.profile import profile

ROWS = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def few_calls(monkeypatch):
    monkeypatch.setattr(profiles, "ROUNDS", 2)
    monkeypatch.setattr(profiles, "BLOCK_MS", 1.0)


def event(name, duration, category="Node"):
    return {"cat": category, "name": name, "dur": duration}


def test_the_shortest_third_of_each_kernel_counts():
    calls = [[4, 10], [5, 11], [90, 10], [4, 13], [6, 12], [7, 60]]
    events = [
        one
        for a, b in calls
        for one in (
            event("a_kernel_time", a),
            event("b_kernel_time", b),
            event("model_run", a + b, "Session"),
        )
    ]
    assert profiles._kernel_us(events) == {"a": 4.0, "b": 10.0}


def test_kernels_of_one_name_are_added_up():
    events = [event("a_kernel_time", 1), event("a_kernel_time", 2), event("model_run", 3, "S")] * 3
    assert profiles._kernel_us(events) == {"a": 3.0}


def test_what_the_profiler_adds_is_taken_off_in_equal_parts():
    # 9 is 2.9 too much: 1 less of each, but the last one keeps the least time.
    assert profiles._without_added([3.0, 5.0, 1.0], 6.1) == pytest.approx([2.0, 4.0, 0.1])
    assert profiles._without_added([3.0, 5.0], 100.0) == pytest.approx([3.0, 5.0])
    assert sum(profiles._without_added([50.0, 50.0], 10.0)) == pytest.approx(92.0)


@pytest.mark.parametrize("quantize", [False, True], ids=["fp32", "static"])
def test_every_kernel_of_the_optimised_graph_has_a_time(quantize):
    _, _, int8 = quantized(mlp(), {"x": ROWS})
    model = int8 if quantize else prepare(mlp())
    found = profile(model, "test", {1: {"x": ROWS[:1]}, 64: {"x": ROWS}}, 1)
    assert list(found) == [1, 64]
    for one in found.values():
        assert [timed.kernel for timed in one.kernels] == list(kernels_of(model, "test"))
        assert all(timed.us >= profiles.SMALLEST_US for timed in one.kernels)
        total = sum(timed.us for timed in one.kernels) + one.floor_us
        assert one.call_us <= total + 1e-9
        assert one.explained > 0


def test_nothing_is_left_in_the_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile(prepare(mlp()), "test", {4: {"x": ROWS[:4]}}, 1)
    assert not list(tmp_path.iterdir())
