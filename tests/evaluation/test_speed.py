from __future__ import annotations

import math

import numpy as np
import pytest
from support.graphs import fraud_like, fraud_rows

from qtool.config.evaluation import Latency
from qtool.evaluation.results import LatencyResult, ThroughputResult
from qtool.evaluation.speed import (
    COLD_PROCESSES,
    latency_result,
    measure_cold,
    measure_latency,
    measure_throughput,
)
from qtool.graph.model_file import write_model
from qtool.progress import SilentProgress
from qtool.runtime.cold_start import Start
from qtool.runtime.latency import Timing
from qtool.runtime.throughput import ROUNDS


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    file = tmp_path_factory.mktemp("speed") / "model.onnx"
    write_model(file, fraud_like())
    return file


def timing(*rounds, **shares):
    return Timing(np.array(rounds, float), np.array(rounds, float), **shares)


def test_the_faster_fp32_is_the_baseline():
    times = {"original": timing(4, 4), "prepared": timing(3, 3), "int8": timing(1, 1)}
    found = latency_result(times, 32, 2)
    assert (found.fp32_model, found.speedup, found.batch_size, found.threads) == (
        "prepared",
        3,
        32,
        2,
    )
    assert (found.fp32_us, found.int8_us) == ((3, 3), (1, 1))


def test_preempted_calls_of_both_models_are_shared_out():
    times = {"prepared": timing(2, 2, 2, preempted=0.1), "int8": timing(1, preempted=0.5)}
    times["int8"] = Timing(np.ones(1), np.ones(3), preempted=0.5, lost=1.0)
    found = latency_result(times, 1, 1)
    assert found.preempted == pytest.approx((3 * 0.1 + 1 * 0.5) / 4)
    assert found.noisy.startswith("in 100% of the rounds")


@pytest.mark.parametrize(
    ("low", "high", "noisy", "finding"),
    [
        (1.2, 1.4, "", "faster"),
        (0.8, 0.9, "", "slower"),
        (1.005, 1.02, "", "no difference"),
        (0.98, 0.995, "", "no difference"),
        (0.99, 1.02, "", "no difference"),
        (1.2, 1.4, "it drifted", "too noisy"),
    ],
)
def test_findings(low, high, noisy, finding):
    latency = LatencyResult(1, 1, "prepared", (1.0,), (1.0,), 1.0, low, high, noisy)
    assert latency.finding == finding
    throughput = ThroughputResult(1, 2, 1, 1.0, 1.0, 1.0, low, high, noisy=noisy)
    assert throughput.finding == finding


def test_too_few_cores_are_told():
    few = ThroughputResult(1, 4, 1, 1.0, 1.0, 1.0, 1.0, 1.0, cores=2)
    assert few.note == "4 sessions of 1 thread shared 2 cores"
    enough = ThroughputResult(1, 2, 2, 1.0, 1.0, 1.0, 1.0, 1.0, cores=4)
    assert enough.note == ""


def test_latency_of_batch_sizes_and_threads(model):
    section = Latency(blocks=5, block_ms=0.1, threads=[1, 2])
    fp32 = {"prepared": model, "original": model}
    found = measure_latency(fp32, model, fraud_rows(3), [1, 8], 4, section, SilentProgress())
    assert [(one.threads, one.batch_size) for one in found] == [(1, 1), (1, 8), (2, 1), (2, 8)]
    assert all(len(one.fp32_us) >= 15 for one in found)
    (one,) = measure_latency(
        fp32, model, fraud_rows(3), [4], 2, Latency(blocks=5, block_ms=0.1), SilentProgress()
    )
    assert one.threads == 2


def test_throughput_of_batch_sizes_and_sessions(model):
    section = Latency(sessions=[1, 2], seconds=0.02)
    found = measure_throughput(
        {"prepared": model}, model, fraud_rows(3), [1, 8], 1, section, SilentProgress()
    )
    assert [(one.sessions, one.batch_size) for one in found] == [(1, 1), (1, 8), (2, 1), (2, 8)]
    assert all(min(one.fp32, one.int8, one.low) > 0 for one in found)
    assert found[0].cores == 1
    assert measure_throughput({}, model, {}, [1], 1, Latency(), SilentProgress()) == ()
    assert ROUNDS > 1


@pytest.fixture
def starts(monkeypatch):
    log = []

    def started(model, rows, threads, where):
        log.append(where)
        return Start(float(len(log)), 10.0 * len(log), None)

    monkeypatch.setattr("qtool.evaluation.speed.start", started)
    return log


def test_cold_starts_take_turns_and_are_medians(model, starts, monkeypatch):
    monkeypatch.setattr("qtool.evaluation.speed.drop_from_cache", lambda files: True)
    fp32, int8 = measure_cold(model, model, fraud_rows(3), [32, 4], 1, SilentProgress())
    assert starts[:8] == ["the FP32 model"] * 2 + ["the INT8 model"] * 4 + ["the FP32 model"] * 2
    assert (fp32.model, int8.model, fp32.batch_size) == ("fp32", "int8", 4)
    assert fp32.processes == COLD_PROCESSES
    # Of both, an uncached start and then a cached one: fp32 1 2, int8 3 4, int8 5 6, fp32 7 8 …
    assert (fp32.uncached_load_ms, fp32.load_ms) == (9, 10)
    assert (int8.uncached_first_us, int8.first_us) == (110, 120)
    assert fp32.peak_bytes is None


def test_without_an_empty_cache_there_is_no_uncached_start(model, starts, monkeypatch):
    monkeypatch.setattr("qtool.evaluation.speed.drop_from_cache", lambda files: False)
    fp32, _ = measure_cold(model, model, fraud_rows(3), [1], 1, SilentProgress())
    assert math.isnan(fp32.uncached_load_ms)
    assert math.isnan(fp32.uncached_first_us)
    assert fp32.load_ms == 10
