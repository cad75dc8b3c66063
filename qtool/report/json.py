"""The evaluation as JSON, in three documents.

* ``accuracy_json``: everything that does not depend on a clock, so equal inputs give equal bytes;
* ``latency_json``: what was timed, and the gates on it;
* ``to_json``: both, with the overall verdict and the notes.

Keys keep their order. A value that was not measured is null: JSON has no NaN.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from qtool.evaluation.gates import GATES
from qtool.evaluation.results import Evaluation
from qtool.report.latency import summarize


def to_json(evaluation: Evaluation) -> str:
    """Returns the whole evaluation."""
    document = {"passed": evaluation.passed, **_accuracy(evaluation)}
    document["gates"] = [asdict(gate) for gate in evaluation.gates]
    document["latency"] = _latency(evaluation)
    document["notes"] = list(evaluation.notes)
    return _dump(document)


def accuracy_json(evaluation: Evaluation) -> str:
    """Returns all that was measured but not timed, and the gates that no clock decides.

    Notes are left out, since they may speak of timings.
    """
    return _dump(_accuracy(evaluation))


def latency_json(evaluation: Evaluation) -> str:
    """Returns the latency per batch size, microseconds, and the gates on it."""
    return _dump(
        {
            "name": evaluation.name,
            "gates": [asdict(gate) for gate in evaluation.gates if GATES[gate.name].timed],
            "latency": _latency(evaluation),
        }
    )


def _accuracy(evaluation: Evaluation) -> dict[str, Any]:
    decisions, parity, training = evaluation.decisions, evaluation.parity, evaluation.training
    return {
        "name": evaluation.name,
        "method": evaluation.method,
        "qat": evaluation.qat,
        "positives": evaluation.positives,
        "metrics": {
            metric.name: {"fp32": metric.fp32, "int8": metric.int8, "change": metric.change}
            for metric in evaluation.metrics
        },
        "decisions": {**asdict(decisions), "flip_share": decisions.flip_share},
        "sizes_bytes": evaluation.sizes_bytes,
        "size_ratio": evaluation.size_ratio,
        "parity": None if parity is None else asdict(parity),
        "training": None if training is None else json.loads(training.to_json()),
        "gates": [asdict(gate) for gate in evaluation.gates if not GATES[gate.name].timed],
        "coverage": [asdict(node) for node in evaluation.coverage],
        "provenance": evaluation.provenance,
    }


def _latency(evaluation: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "batch_size": result.batch_size,
            "threads": result.threads,
            "fp32_model": result.fp32_model,
            "speedup": result.speedup,
            "speedup_low": result.speedup_low,
            "speedup_high": result.speedup_high,
            "fp32_us": asdict(summarize(result.fp32_us)),
            "int8_us": asdict(summarize(result.int8_us)),
        }
        for result in evaluation.latency
    ]


def _dump(document: dict[str, Any]) -> str:
    text = json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n"


def _finite(value: Any) -> Any:
    """Returns ``value`` with null for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
