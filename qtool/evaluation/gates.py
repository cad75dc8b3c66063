"""Gates: each measured value and its confidence bound against its limit, with three verdicts.

A gate passes when the one-sided confidence bound lies inside the limit, fails when the whole
interval lies outside, and is undecided between: there were too few rows, and it says how many would
do. A gate whose value was not measured fails and says why.

``GATES`` are the gates by name; ``METRIC_drop`` (how much worse INT8 is) and ``METRIC_change``
exist for every metric and every figure of the user's system, and every agreement is a gate under
its own name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from scipy.stats import norm, quantile_test

from qtool.config.evaluation import Evaluation as Section
from qtool.config.evaluation import Limit, Margin
from qtool.config.task import CLASSIFICATION, Task
from qtool.errors import ConfigError
from qtool.evaluation.results import (
    BOUND_CONFIDENCE,
    Evaluation,
    GateResult,
    ImpactRatio,
    MetricChange,
    SegmentChange,
    StressResult,
)
from qtool.statistics.interval import Interval, two_sided
from qtool.statistics.noninferiority import Decision, decide_interval, decide_share

Bound = Literal["at most", "at least"]
CONFIDENCE = 0.95
UNKNOWN = (-math.inf, math.inf)
"""Ends of the interval of what was measured too badly to decide."""
CALLS_FOR_P99 = 1000
BINARY: tuple[Task, ...] = ("binary_classification",)
AGREEMENTS: dict[str, tuple[Task, str]] = {
    "class_agreement": ("multiclass_classification", ""),
    "trade_agreement": ("multiclass_classification", "trading"),
    "token_agreement": ("language_model", ""),
    "top_10_overlap": ("representation", ""),
    "assignment_agreement": ("representation", "segmentation"),
    "tag_agreement": ("sequence_tagging", ""),
}
"""Agreements, as gates (at least so much): their task, and ``Gate.needs``."""


@dataclass(frozen=True)
class Measured:
    """What a gate is decided by.

    Attributes:
        value: point estimate; NaN when it was not measured.
        text: the sentence that explains it.
        low: lower end of a two-sided interval; NaN where there is no doubt about the value.
        high: upper end.
        confidence: of the interval.
        rows: rows behind it.
        hits: of a share of rows: how many, for exact bounds; None for other values.
        effective: independent rows that say as much about the share; None: the rows.
        others: of a gate on several parts: those beside this, the worst, which could fail it too.
    """

    value: float
    text: str
    low: float = math.nan
    high: float = math.nan
    confidence: float = CONFIDENCE
    rows: int = 0
    hits: int | None = None
    effective: float | None = None
    others: tuple[Measured, ...] = ()


@dataclass(frozen=True)
class Gate:
    """How one gate is measured.

    Attributes:
        bound: whether the limit is the largest or the smallest allowed value.
        measure: the value and how sure it is.
        timed: the value comes from a clock, so it differs from run to run.
        needs: key of the section that must be set for it; empty: none.
        tasks: those that have it; empty: all.
    """

    bound: Bound
    measure: Callable[[Evaluation], Measured]
    timed: bool = False
    needs: str = ""
    tasks: tuple[Task, ...] = ()


def check_gates(gates: Mapping[str, Limit | None], found: Evaluation) -> tuple[GateResult, ...]:
    """Returns the result of every gate that has a limit, in the order of the section.

    ``found.gates`` is not read: build the evaluation with ``gates=()`` and put the result in with
    ``dataclasses.replace``.

    Raises:
        ConfigError: a gate has a name that none has.
    """
    return tuple(_check(name, limit, found) for name, limit in gates.items() if limit is not None)


def gate_named(name: str) -> Gate | None:
    """Returns the gate of a name; None when there is none, whatever the metrics are."""
    if name in GATES:
        return GATES[name]
    if name in AGREEMENTS:
        task, needs = AGREEMENTS[name]
        return Gate("at least", partial(_agreement, name), needs=needs, tasks=(task,))
    metric, _, kind = name.rpartition("_")
    if metric and kind in ("drop", "change"):
        return Gate("at most", partial(_metric_gate, metric, kind))
    return None


def check_names(section: Section, metrics: Sequence[str], task: Task) -> None:
    """Checks that every gate names something that will be measured.

    A gate whose limit is null is only a name: a config unsets one that it inherits.

    Args:
        section: with the gates.
        metrics: names of the metrics.
        task: what the labels say.

    Raises:
        ConfigError: one does not.
    """
    for name, limit in section.gates.items():
        where, gate = f"evaluation.gates.{name}", gate_named(name)
        of_metric = name not in GATES and name not in AGREEMENTS
        if gate is None or (of_metric and name.rpartition("_")[0] not in metrics):
            raise ConfigError(
                where,
                "no such gate",
                f"one of {', '.join(_known(metrics, task))}, or METRIC_change",
                "A gate on a metric needs that metric in evaluation.metrics.",
            )
        if limit is None:
            continue
        if not _has(task, gate):
            raise ConfigError(where, f"the task {task}", " or ".join(gate.tasks), "Remove it.")
        absent = _absent(section, gate.needs)
        if absent:
            raise ConfigError(where, absent, "what the gate judges", "Set it, or remove the gate.")


def _known(metrics: Sequence[str], task: Task) -> list[str]:
    """Returns the names that a config of the task may use."""
    gates = {name: gate for name in (*GATES, *AGREEMENTS) if (gate := gate_named(name)) is not None}
    listed = [name for name, gate in gates.items() if _has(task, gate)]
    return [*listed, *(f"{name}_drop" for name in metrics)]


def _has(task: Task, gate: Gate) -> bool:
    return not gate.tasks or task in gate.tasks


def _absent(section: Section, needs: str) -> str:
    """Returns what is not as a gate needs it, in words; empty when all is."""
    value: object = section
    for key in filter(None, needs.split(".")):
        value = getattr(value, key)
    if value:
        return ""
    return f"evaluation.{needs} is {'false' if value is False else 'not set'}"


def _check(name: str, limit: Limit, found: Evaluation) -> GateResult:
    gate = gate_named(name)
    if gate is None:
        raise ConfigError(f"evaluation.gates.{name}", "no such gate", "a name that exists")
    given = limit if isinstance(limit, Margin) else Margin(margin=limit)
    worst = gate.measure(found)
    parts = worst, *worst.others
    decided = [(part, _decide(part, gate.bound, given, len(parts))) for part in parts]
    failed = (pair for pair in decided if pair[1].verdict == "fail")
    measured, decision = next(failed, decided[0])
    text = f"{measured.text}; must be {gate.bound} {given.margin:g}"
    if math.isnan(measured.value):
        return GateResult(name, "fail", math.nan, math.nan, given.margin, math.nan, text)
    certain = measured.hits is None and math.isnan(measured.low)
    return GateResult(
        name,
        decision.verdict,
        measured.value,
        decision.bound,
        given.margin,
        math.nan if certain else given.confidence,
        text,
        decision.rows_needed,
    )


def _decide(measured: Measured, bound: Bound, limit: Margin, parts: int) -> Decision:
    """Larger is worse in ``noninferiority``; what must be large is turned round."""
    if math.isnan(measured.value):
        return Decision("fail", math.nan)
    if measured.hits is not None:
        return decide_share(
            measured.hits, measured.rows, limit.margin, limit.confidence, measured.effective
        )
    turned = bound == "at least"
    margin = -limit.margin if turned else limit.margin
    found = decide_interval(_bounds(measured, limit.confidence, turned), margin, measured.rows)
    if found.verdict == "fail" and parts > 1:
        # Each of several parts, which could fail the model, at a stricter level (Bonferroni).
        strict = 1 - (1 - limit.confidence) / parts
        bounds = _bounds(measured, strict, turned)
        if not bounds.low > margin:
            found = Decision("undecided", bounds.high)
    return Decision(found.verdict, -found.bound if turned else found.bound, found.rows_needed)


def _bounds(measured: Measured, confidence: float, turned: bool) -> Interval:
    """Returns the interval with one-sided bounds at ``confidence``, as a normal error scales it."""
    value = measured.value
    found = Interval(value, value, value, 0.0)
    if not math.isnan(measured.low):
        scale = norm.ppf(confidence) / norm.ppf((1 + measured.confidence) / 2)
        low, high = (value + float(scale) * (end - value) for end in (measured.low, measured.high))
        found = Interval(value, low, high, math.nan)
    return found.negated() if turned else found


def _of_metric(metric: MetricChange, text: str) -> Measured:
    """Returns how much worse INT8 is; without an interval it may be anything."""
    ends = metric.bound_low, metric.bound_high
    if math.isnan(metric.bound_low):
        ends, text = UNKNOWN, f"{text}, without an interval: {metric.interval}, of fewer than two"
    low, high = ends if metric.better == "lower" else (-ends[1], -ends[0])
    return Measured(metric.drop, text, low, high, two_sided(BOUND_CONFIDENCE), metric.rows)


def _of_several(parts: Sequence[Measured]) -> Measured:
    """Returns the worst of the parts with the others: all pass when the largest upper end does."""
    first, *others = sorted(parts, key=lambda part: -part.high)
    return dataclasses.replace(first, others=tuple(others))


def _metric_gate(name: str, kind: str, found: Evaluation) -> Measured:
    known = (*found.metrics, *found.system)
    metric = next((metric for metric in known if metric.name == name), None)
    if metric is None:
        return _not_measured(f"{name} is not among evaluation.metrics")
    if math.isnan(metric.change):
        return _not_measured(f"{metric.title} is not defined on these rows")
    measured = _of_metric(metric, f"{metric.title} {_went(metric.fp32, metric.int8)}")
    if kind == "drop":
        return measured
    # The farther end decides; that the nearer one is beyond the limit is what fails.
    far = max(abs(measured.low), abs(measured.high))
    near = 0.0 if measured.low <= 0 <= measured.high else min(abs(measured.low), abs(measured.high))
    return dataclasses.replace(measured, value=abs(measured.value), low=near, high=far)


def _agreement(name: str, found: Evaluation) -> Measured:
    agreement = next((one for one in found.agreements if one.name == name), None)
    if agreement is None:
        return _not_measured(f"the task {found.task} has no {name}")
    text = f"{agreement.title}: {agreement.share:.4%} of {agreement.count:,} {agreement.units}"
    return Measured(agreement.share, text, low=agreement.low, high=agreement.high)


def decision_flips(found: Evaluation) -> Measured:
    """Returns the share of rows whose decision changed."""
    decisions = found.decisions
    if decisions is None:
        return _no_decisions(found)
    flips = decisions.to_flagged + decisions.to_passed
    text = f"{flips:,} of {decisions.rows:,} decisions changed"
    effective = None if math.isnan(decisions.effective_rows) else decisions.effective_rows
    if effective is not None and effective < decisions.rows:
        text += f", worth {effective:,.0f} independent ones"
    return Measured(
        decisions.flip_share, text, rows=decisions.rows, hits=flips, effective=effective
    )


def score_psi(found: Evaluation) -> Measured:
    """Returns the population stability index of the scores."""
    if found.decisions is None:
        return _no_decisions(found)
    value = found.decisions.score_psi
    return Measured(value, f"the score PSI is {value:.3g}")


def cost_increase(found: Evaluation) -> Measured:
    """Returns how much the expected cost per row rises."""
    cost = None if found.decisions is None else found.decisions.cost
    if cost is None:
        return _not_measured("evaluation.decision.cost is not set")
    return _of_metric(cost, f"the expected cost per row {_went(cost.fp32, cost.int8)}")


def worst_segment_drop(found: Evaluation) -> Measured:
    """Returns the drop of the first metric in the segment where it may be largest."""
    judged = [segment for segment in found.segments if not math.isnan(segment.metric.drop)]
    if not judged:
        return _not_measured("evaluation.segments names no column with a segment to judge")
    return _of_several([_segment(segment) for segment in judged])


def _segment(segment: SegmentChange) -> Measured:
    metric = segment.metric
    text = f"{metric.title} where {segment.column} is {segment.value} ({segment.rows:,} rows)"
    return _of_metric(metric, f"{text} {_went(metric.fp32, metric.int8)}")


def adverse_impact(found: Evaluation) -> Measured:
    """Returns the smallest adverse impact ratio of INT8."""
    judged = [group for group in found.fairness if not math.isnan(group.int8)]
    if not judged:
        return _not_measured(_no_ratio(found))
    worst = min(judged, key=lambda group: group.int8)
    return Measured(worst.int8, _ratio_text(worst))


def adverse_impact_drop(found: Evaluation) -> Measured:
    """Returns by how much the adverse impact ratio may fall in any group."""
    judged = [group for group in found.fairness if not math.isnan(group.int8 - group.fp32)]
    if not judged:
        return _not_measured(_no_ratio(found))
    return _of_several(
        [
            Measured(
                group.fp32 - group.int8, _ratio_text(group), -group.high, -group.low,
                rows=group.rows,
            )
            for group in judged
        ]
    )  # fmt: skip


def _no_ratio(found: Evaluation) -> str:
    if found.fairness:
        return "nobody of the group that others are compared with gets the favourable decision"
    return "evaluation.fairness is not set, or has no column with two groups that are large enough"


def _ratio_text(group: ImpactRatio) -> str:
    text = f"the ratio of {group.column} {group.group} to {group.reference} went from "
    return f"{text}{group.fp32:.4f} to {group.int8:.4f}"


def monotonicity(found: Evaluation) -> Measured:
    """Returns the share of steps by which INT8 moves against a named direction more than FP32."""
    if not found.monotonicity:
        return _not_measured("evaluation.monotonicity is not set")
    worst = max(found.monotonicity, key=lambda column: (column.int8 - column.fp32) / column.steps)
    text = f"{worst.int8:,} of {worst.steps:,} steps of {worst.column} are against its direction"
    return Measured((worst.int8 - worst.fp32) / worst.steps, f"{text}, of FP32 {worst.fp32:,}")


def reason_overlap(found: Evaluation) -> Measured:
    """Returns the mean share of reason codes that FP32 and INT8 have in common."""
    reasons = found.reasons
    if reasons is None:
        return _not_measured("evaluation.reason_codes is not set")
    if math.isnan(reasons.overlap):
        return _not_measured("FP32 flags no row, or no column pushes one towards it")
    text = f"{reasons.overlap:.4%} of the first {reasons.top} reasons of {reasons.rows:,} rows"
    ends = reasons.low, reasons.high
    return Measured(reasons.overlap, text, *ends, rows=reasons.rows)


def robustness_drop(found: Evaluation) -> Measured:
    """Returns how much the share of turned decisions may rise in any attack or stress."""
    if not found.robustness:
        return _not_measured("evaluation.robustness is not set")
    # Of the rows as they are nothing is turned.
    return _of_several([_stress(stress) for stress in found.robustness if stress.level])


def _stress(stress: StressResult) -> Measured:
    text = f"{stress.kind} at {stress.level:g} turns {stress.succeeded_int8:,} of {stress.rows:,} "
    text += f"decisions of INT8, {stress.succeeded_fp32:,} of FP32"
    return Measured(stress.difference, text, stress.low, stress.high, rows=stress.rows)


def size_ratio(found: Evaluation) -> Measured:
    """Returns INT8 over FP32 file size."""
    sizes = found.sizes_bytes
    text = f"the file went from {sizes['fp32']:,} to {sizes['int8']:,} bytes"
    return Measured(found.size_ratio, text)


def speedup(found: Evaluation) -> Measured:
    """Returns the speed-up at the largest batch size that was measured."""
    if not found.latency:
        return _not_measured("evaluation.latency.enabled is false")
    largest = max(found.latency, key=lambda result: result.batch_size)
    interval = f"95 % interval {largest.speedup_low:.3g} to {largest.speedup_high:.3g}"
    text = f"INT8 is {largest.speedup:.3g} times as fast at batch size {largest.batch_size}"
    text += f" ({interval})"
    if largest.noisy:
        return Measured(largest.speedup, f"{text}; {largest.noisy}", *UNKNOWN)
    return Measured(largest.speedup, text, largest.speedup_low, largest.speedup_high)


def p99_ms(found: Evaluation) -> Measured:
    """Returns the 99th percentile of the INT8 latency at the largest batch size, milliseconds."""
    if not found.latency:
        return _not_measured("evaluation.latency.enabled is false")
    largest = max(found.latency, key=lambda result: result.batch_size)
    calls_ms = np.asarray(largest.int8_us) / 1e3
    value = float(np.percentile(calls_ms, 99))
    text = f"99 % of calls take at most {value:.3g} ms at batch size {largest.batch_size}"
    if calls_ms.size < CALLS_FOR_P99:
        few = f"{text}; {calls_ms.size} calls are too few to tell, raise evaluation.latency.blocks"
        return Measured(value, few, *UNKNOWN)
    # Between order statistics (Conover 1999, "Practical nonparametric statistics", section 3.2).
    low, high = quantile_test(calls_ms, q=value, p=0.99).confidence_interval(CONFIDENCE)
    return Measured(value, text, float(low), float(high))


def equal_codes(found: Evaluation) -> Measured:
    """Returns the share of equal activation codes, simulation against runtime."""
    parity = found.parity
    if parity is None:
        text = f"the {found.method} model has no activation codes that are fixed in advance"
        return _not_measured(text)
    different = round(parity.codes * (1 - parity.equal_share))
    text = f"{different:,} of {parity.codes:,} codes differ from the simulation"
    return Measured(parity.equal_share, text)


def _went(fp32: float, int8: float) -> str:
    return f"went from {fp32:.6g} to {int8:.6g}"


def _not_measured(why: str) -> Measured:
    return Measured(math.nan, f"not measured: {why}")


def _no_decisions(found: Evaluation) -> Measured:
    return _not_measured(f"the task {found.task} has no threshold")


GATES: dict[str, Gate] = {
    "decision_flips": Gate("at most", decision_flips, tasks=BINARY),
    "score_psi": Gate("at most", score_psi, tasks=BINARY),
    "cost_increase": Gate("at most", cost_increase, needs="decision.cost", tasks=BINARY),
    "worst_segment_drop": Gate("at most", worst_segment_drop, needs="segments"),
    "adverse_impact": Gate("at least", adverse_impact, needs="fairness", tasks=BINARY),
    "adverse_impact_drop": Gate("at most", adverse_impact_drop, needs="fairness", tasks=BINARY),
    "monotonicity": Gate(
        "at most", monotonicity, needs="monotonicity", tasks=(*BINARY, "regression")
    ),
    "reason_overlap": Gate("at least", reason_overlap, needs="reason_codes", tasks=BINARY),
    "robustness_drop": Gate("at most", robustness_drop, needs="robustness", tasks=CLASSIFICATION),
    "size_ratio": Gate("at most", size_ratio),
    "speedup": Gate("at least", speedup, timed=True, needs="latency.enabled"),
    "p99_ms": Gate("at most", p99_ms, timed=True, needs="latency.enabled"),
    "equal_codes": Gate("at least", equal_codes),
}
