"""What is read first: the verdict and the few numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qtool.evaluation.results import Evaluation, LatencyResult
from qtool.history import History
from qtool.report.text import (
    ABSENT,
    count,
    file_size,
    metric_title,
    number,
    share,
    signed,
    times,
)


@dataclass(frozen=True)
class Verdict:
    """The outcome of all gates; ``open`` means that no gate was set, so nothing was decided."""

    outcome: Literal["pass", "fail", "open"]
    word: str
    text: str


@dataclass(frozen=True)
class Fact:
    """One headline number with its label and what is needed to judge it."""

    label: str
    value: str
    detail: str


def verdict(evaluation: Evaluation) -> Verdict:
    """Returns the outcome, its word and one sentence that names the failed gates."""
    gates = evaluation.gates
    if not gates:
        return Verdict("open", "NO GATES", "evaluation.gates is empty, so nothing was decided.")
    failed = [gate.name for gate in gates if not gate.passed]
    if failed:
        text = f"{len(failed)} of {len(gates)} gates failed: {', '.join(failed)}."
        return Verdict("fail", "FAILED", text)
    return Verdict("pass", "PASSED", f"{len(gates)} of {len(gates)} gates hold.")


def facts(evaluation: Evaluation) -> tuple[Fact, ...]:
    """Returns decisions changed, the first metric's change, the speed-up and the size."""
    decisions, metric = evaluation.decisions, evaluation.metrics[0]
    flips = decisions.to_flagged + decisions.to_passed
    return (
        Fact(
            "Decisions changed",
            count(flips),
            f"of {count(decisions.rows)} ({share(decisions.flip_share)}); "
            f"at most {share(decisions.flip_share_upper)} with 95 % confidence",
        ),
        Fact(
            f"{metric_title(metric.name)} change",
            signed(metric.change),
            f"FP32 {number(metric.fp32)} → INT8 {number(metric.int8)}",
        ),
        _speedup(evaluation.latency),
        Fact(
            "Size",
            share(evaluation.size_ratio),
            f"of FP32: {file_size(evaluation.sizes_bytes['fp32'])} → "
            f"{file_size(evaluation.sizes_bytes['int8'])}",
        ),
    )


def description(evaluation: Evaluation) -> str:
    """Returns what was compared, in one line."""
    method = f"{evaluation.method}, quantization-aware" if evaluation.qat else evaluation.method
    rows, positives = evaluation.decisions.rows, evaluation.positives
    return (
        f"INT8 ({method}) against FP32 on {count(rows)} rows, "
        f"{count(positives)} positive ({share(positives / rows)})"
    )


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
    return f"{text} {_compared(metric_title(history.metric), *metrics)}"


def _compared(name: str, kept: float | None, start: float | None, fp32: float | None) -> str:
    texts = (ABSENT if value is None else number(value) for value in (kept, start, fp32))
    return "{} {} (before training {}, FP32 {}).".format(name, *texts)


def _speedup(latency: tuple[LatencyResult, ...]) -> Fact:
    if not latency:
        return Fact("Speed-up", "unknown", "latency was not measured")
    largest = max(latency, key=lambda result: result.batch_size)
    return Fact(
        "Speed-up",
        times(largest.speedup),
        f"at batch size {largest.batch_size}; 95 % interval {times(largest.speedup_low)} to "
        f"{times(largest.speedup_high)}",
    )
