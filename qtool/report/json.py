"""The evaluation as JSON, in three documents.

* ``accuracy_json``: everything that does not depend on a clock, so equal inputs give equal bytes;
* ``latency_json``: what was timed, and the gates on it;
* ``to_json``: both, with the overall verdict and the notes.

Every object has the fields of its result dataclass and the values of ``DERIVED``; ``schema.py``
describes them. Keys keep their order. A value that was not measured is null: JSON has no NaN.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, Literal

from qtool.evaluation.gates import gate_named
from qtool.evaluation.results import (
    DecisionChange,
    Evaluation,
    GateResult,
    LatencyResult,
    MetricChange,
    SpeedFinding,
    ThroughputResult,
)
from qtool.history import History
from qtool.report.latency import LatencySummary, summarize

Document = Literal["result", "accuracy", "latency"]

DERIVED: dict[type, tuple[str, ...]] = {
    MetricChange: ("change", "drop"),
    DecisionChange: ("flip_share",),
    ThroughputResult: ("finding", "note"),
    Evaluation: ("size_ratio", "verdict", "passed"),
}
"""Properties that are written beside the fields."""
TIMED = ("latency", "throughput", "cold", "price_per_core_hour", "system_timed")
"""What a clock measured, or only says something about what it measured."""
OVERALL = ("verdict", "passed", "notes")
"""What speaks of everything, timings too."""


@dataclasses.dataclass(frozen=True)
class LatencyEntry:
    """``LatencyResult`` with percentiles in place of every call.

    Attributes:
        batch_size: rows per call.
        threads: threads of each session.
        fp32_model: which FP32 model is the baseline: the faster of ``prepared`` and ``original``.
        fp32_us: latency of FP32.
        int8_us: latency of INT8.
        speedup: median over blocks of (FP32 block median / INT8 block median).
        speedup_low: lower end of its 95 % bootstrap interval over blocks.
        speedup_high: upper end.
        noisy: why the machine was too noisy to decide; empty when it was not.
        preempted: share of the timed calls in which another process took the core.
        finding: what the interval says; a difference below 1 % on its near side is none.
    """

    batch_size: int
    threads: int
    fp32_model: str
    fp32_us: LatencySummary
    int8_us: LatencySummary
    speedup: float
    speedup_low: float
    speedup_high: float
    noisy: str
    preempted: float
    finding: SpeedFinding


def keys_of(document: Document) -> tuple[str, ...]:
    """Returns the keys of a document besides ``document`` itself."""
    if document == "latency":
        return ("name", "gates", *TIMED)
    every = (*(field.name for field in dataclasses.fields(Evaluation)), *DERIVED[Evaluation])
    if document == "result":
        return every
    return tuple(key for key in every if key not in (*TIMED, *OVERALL))


def to_json(evaluation: Evaluation) -> str:
    """Returns the whole evaluation."""
    return _dump("result", evaluation, evaluation.gates)


def accuracy_json(evaluation: Evaluation) -> str:
    """Returns all that was measured but not timed, and the gates that no clock decides.

    Notes are left out, since they may speak of timings.
    """
    gates = tuple(gate for gate in evaluation.gates if not _timed(gate))
    return _dump("accuracy", evaluation, gates)


def latency_json(evaluation: Evaluation) -> str:
    """Returns what was timed, latency in microseconds, and the gates on it."""
    return _dump("latency", evaluation, tuple(gate for gate in evaluation.gates if _timed(gate)))


def _timed(gate: GateResult) -> bool:
    found = gate_named(gate.name)
    return found is not None and found.timed


def _dump(document: Document, evaluation: Evaluation, gates: tuple[GateResult, ...]) -> str:
    values: dict[str, Any] = {"document": document}
    for key in keys_of(document):
        values[key] = _plain(getattr(evaluation, key))
    values["gates"] = _plain(gates)
    if "metrics" in values:
        values["metrics"] = {metric["name"]: metric for metric in values["metrics"]}
    return f"{json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)}\n"


def _plain(value: Any) -> Any:
    """Returns a result as JSON knows it: null for every number that it cannot hold."""
    if isinstance(value, History):
        return json.loads(value.to_json())
    if isinstance(value, LatencyResult):
        value = _entry(value)
    if dataclasses.is_dataclass(value):
        names = (field.name for field in dataclasses.fields(value))
        return {
            name: _plain(getattr(value, name)) for name in (*names, *DERIVED.get(type(value), ()))
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entry(result: LatencyResult) -> LatencyEntry:
    return LatencyEntry(
        result.batch_size,
        result.threads,
        result.fp32_model,
        summarize(result.fp32_us),
        summarize(result.int8_us),
        result.speedup,
        result.speedup_low,
        result.speedup_high,
        result.noisy,
        result.preempted,
        result.finding,
    )
