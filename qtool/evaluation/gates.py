"""Gates: each measured value against its limit.

``GATES`` has one entry per field of the configuration section ``evaluation.gates``. A gate whose
value was not measured fails and says why: its value is NaN, and NaN is neither at most nor at least
any limit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qtool.config.evaluation import Gates
from qtool.evaluation.results import Evaluation, GateResult, MetricChange

NOT_MEASURED = float("nan")
Measurement = tuple[float, str]


@dataclass(frozen=True)
class Gate:
    """How one gate is measured.

    Attributes:
        bound: whether the limit is the largest or the smallest allowed value.
        timed: the value comes from a clock, so it differs from run to run.
        measure: the value, NaN when it was not measured, and the sentence that explains it.
    """

    bound: Literal["at most", "at least"]
    timed: bool
    measure: Callable[[Evaluation], Measurement]


def check_gates(gates: Gates, evaluation: Evaluation) -> tuple[GateResult, ...]:
    """Returns the result of every gate that has a limit, in the order of the section.

    ``evaluation.gates`` is not read: build the evaluation with ``gates=()`` and put the result in
    with ``dataclasses.replace``.
    """
    limits = {name: getattr(gates, name) for name in GATES}
    return tuple(
        _check(name, limit, evaluation) for name, limit in limits.items() if limit is not None
    )


def _check(name: str, limit: float, evaluation: Evaluation) -> GateResult:
    gate = GATES[name]
    value, text = gate.measure(evaluation)
    passed = value <= limit if gate.bound == "at most" else value >= limit
    return GateResult(name, passed, value, limit, f"{text}; must be {gate.bound} {limit:g}")


def auc_drop(evaluation: Evaluation) -> Measurement:
    """Returns FP32 AUC minus INT8 AUC; negative when INT8 is better."""
    auc = _auc(evaluation)
    if auc is None:
        return NOT_MEASURED, "not measured: auc is not among evaluation.metrics"
    return -auc.change, f"AUC went from {auc.fp32:.6f} to {auc.int8:.6f}"


def auc_change(evaluation: Evaluation) -> Measurement:
    """Returns |FP32 AUC - INT8 AUC|."""
    drop, text = auc_drop(evaluation)
    return abs(drop), text


def decision_flips(evaluation: Evaluation) -> Measurement:
    """Returns the share of rows whose decision changed."""
    decisions = evaluation.decisions
    flips = decisions.to_flagged + decisions.to_passed
    return decisions.flip_share, f"{flips:,} of {decisions.rows:,} decisions changed"


def score_psi(evaluation: Evaluation) -> Measurement:
    """Returns the population stability index of the scores."""
    value = evaluation.decisions.score_psi
    return value, f"the score PSI is {value:.3g}"


def size_ratio(evaluation: Evaluation) -> Measurement:
    """Returns INT8 over FP32 file size."""
    sizes = evaluation.sizes_bytes
    text = f"the file went from {sizes['fp32']:,} to {sizes['int8']:,} bytes"
    return evaluation.size_ratio, text


def speedup(evaluation: Evaluation) -> Measurement:
    """Returns the speed-up, a point estimate, at the largest batch size that was measured."""
    if not evaluation.latency:
        return NOT_MEASURED, "not measured: evaluation.latency.enabled is false"
    largest = max(evaluation.latency, key=lambda result: result.batch_size)
    interval = f"95 % interval {largest.speedup_low:.3g} to {largest.speedup_high:.3g}"
    text = f"INT8 is {largest.speedup:.3g} times as fast at batch size {largest.batch_size}"
    return largest.speedup, f"{text} ({interval})"


def equal_codes(evaluation: Evaluation) -> Measurement:
    """Returns the share of equal activation codes, simulation against runtime."""
    parity = evaluation.parity
    if parity is None:
        text = f"the {evaluation.method} model has no activation codes that are fixed in advance"
        return NOT_MEASURED, f"not measured: {text}"
    different = round(parity.codes * (1 - parity.equal_share))
    return parity.equal_share, f"{different:,} of {parity.codes:,} codes differ from the simulation"


def _auc(evaluation: Evaluation) -> MetricChange | None:
    return next((metric for metric in evaluation.metrics if metric.name == "auc"), None)


GATES: dict[str, Gate] = {
    "auc_drop": Gate("at most", False, auc_drop),
    "auc_change": Gate("at most", False, auc_change),
    "decision_flips": Gate("at most", False, decision_flips),
    "score_psi": Gate("at most", False, score_psi),
    "size_ratio": Gate("at most", False, size_ratio),
    "speedup": Gate("at least", True, speedup),
    "equal_codes": Gate("at least", False, equal_codes),
}
