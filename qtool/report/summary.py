"""What is read first: the verdict and the few numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qtool.evaluation.results import Agreement, Evaluation, LatencyResult, MetricChange
from qtool.history import History
from qtool.report.text import (
    ABSENT,
    TRAINING_TITLES,
    between,
    count,
    file_size,
    interval,
    number,
    share,
    signed,
    times,
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of all gates; ``open`` means that no gate was set, so nothing was decided."""

    outcome: Literal["pass", "fail", "undecided", "open"]
    word: str
    text: str


@dataclass(frozen=True)
class Fact:
    """One headline number with its label and what is needed to judge it."""

    label: str
    value: str
    detail: str


def verdict(evaluation: Evaluation) -> Verdict:
    """Returns the outcome, its word and a sentence that names the gates that do not hold."""
    gates = evaluation.gates
    if not gates:
        return Verdict("open", "NO GATES", "evaluation.gates is empty, so nothing was decided.")
    failed, undecided = (
        [gate.name for gate in gates if gate.verdict == kind] for kind in ("fail", "undecided")
    )
    texts = []
    if failed:
        texts.append(f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}.")
    if undecided:
        texts.append(
            f"{len(undecided)} of {len(gates)} gates cannot be decided: {', '.join(undecided)}."
        )
    if failed:
        return Verdict("fail", "FAILED", " ".join(texts))
    if undecided:
        return Verdict("undecided", "UNDECIDED", " ".join(texts))
    return Verdict("pass", "PASSED", f"{len(gates)} of {len(gates)} gates hold.")


def facts(evaluation: Evaluation) -> tuple[Fact, ...]:
    """Returns what agrees, else a second metric, the first metric's change, speed-up and size."""
    size = Fact(
        "Size",
        share(evaluation.size_ratio),
        f"of FP32: {file_size(evaluation.sizes_bytes['fp32'])} → "
        f"{file_size(evaluation.sizes_bytes['int8'])}",
    )
    agreement = _agreement(evaluation)
    metrics = evaluation.metrics[: 1 if agreement else 2]
    changes = (_change(metric) for metric in metrics)
    return (*agreement, *changes, speedup(evaluation.latency), size)


def _agreement(evaluation: Evaluation) -> tuple[Fact, ...]:
    """The decisions, else the first agreement."""
    decisions = evaluation.decisions
    if decisions is not None:
        detail = (
            f"of {count(decisions.rows)} ({share(decisions.flip_share)}); "
            f"at most {share(decisions.flip_share_upper)} with 95 % confidence"
        )
        flips = decisions.to_flagged + decisions.to_passed
        return (Fact("Decisions changed", count(flips), detail),)
    return tuple(_share(one) for one in evaluation.agreements[:1])


def _share(agreement: Agreement) -> Fact:
    ends = between(agreement.low, agreement.high)
    detail = f"of {count(agreement.count)} {agreement.units}"
    return Fact(
        agreement.title, share(agreement.share), f"{detail}; interval {ends}" if ends else detail
    )


def _change(metric: MetricChange) -> Fact:
    detail = f"FP32 {number(metric.fp32)} → INT8 {number(metric.int8)}"
    ends = interval(metric.low, metric.high)
    if ends:
        detail += f"; {100 * metric.confidence:g} % interval {ends}"
    return Fact(f"{metric.title} change", signed(metric.change), detail)


def description(evaluation: Evaluation) -> str:
    """Returns what was compared, in one line."""
    method = f"{evaluation.method}, quantization-aware" if evaluation.qat else evaluation.method
    rows, positives = evaluation.rows, evaluation.positives
    text = (
        f"{evaluation.task.replace('_', ' ').capitalize()}: INT8 ({method}) against FP32 on "
        f"{count(rows)} rows"
    )
    if positives is None:
        return text
    return f"{text}, {count(positives)} positive ({share(positives / rows)})"


def training_text(history: History) -> str:
    """Returns which epoch was kept, and its figures beside those of epoch 0 and of FP32."""
    kept, start = history.best, history.epochs[0]
    text = (
        f"Epoch {kept.epoch} of {history.epochs[-1].epoch} was kept: the best validation "
        f"{history.keep}. "
        + _compared("Loss", kept.validation_loss, start.validation_loss, history.fp32_loss)
    )
    if history.metric is None:
        return text
    metrics = (kept.validation_metric, start.validation_metric, history.fp32_metric)
    return f"{text} {_compared(TRAINING_TITLES[history.metric], *metrics)}"


def _compared(name: str, kept: float | None, start: float | None, fp32: float | None) -> str:
    texts = (ABSENT if value is None else number(value) for value in (kept, start, fp32))
    return "{} {} (before training {}, FP32 {}).".format(name, *texts)


def speedup(latency: tuple[LatencyResult, ...]) -> Fact:
    """Returns the speed-up at the largest batch size."""
    if not latency:
        return Fact("Speed-up", "unknown", "latency was not measured")
    largest = max(latency, key=lambda result: result.batch_size)
    detail = (
        f"at batch size {largest.batch_size}; 95 % interval {times(largest.speedup_low)} to "
        f"{times(largest.speedup_high)}"
    )
    if largest.finding != "faster":
        detail += f"; {largest.finding}"
    return Fact("Speed-up", times(largest.speedup), detail)
