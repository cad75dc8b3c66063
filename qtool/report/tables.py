"""The tables of a report as text cells; Markdown, the page and the console only lay them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from qtool.data.column_fit import Representativeness
from qtool.evaluation.gates import GATES
from qtool.evaluation.results import Evaluation, NodeCoverage
from qtool.report.latency import summarize
from qtool.report.text import (
    LOWER_IS_BETTER,
    TIMES,
    count,
    file_size,
    gate_value,
    metric_title,
    microseconds,
    number,
    share,
    signed,
    times,
)


@dataclass(frozen=True)
class Table:
    """Text cells; ``align`` has one letter per column, l or r."""

    title: str
    header: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]


def gates_table(evaluation: Evaluation) -> Table:
    """Returns each gate with its value, its limit and the sentence that explains it."""
    return Table(
        "Gates",
        ("Gate", "Result", "Value", "Limit", "Finding"),
        "llrrl",
        tuple(
            (
                gate.name,
                "passed" if gate.passed else "FAILED",
                gate_value(gate.name, gate.value),
                f"{GATES[gate.name].bound} {gate_value(gate.name, gate.limit)}",
                gate.text,
            )
            for gate in evaluation.gates
        ),
    )


def metrics_table(evaluation: Evaluation) -> Table:
    """Returns each metric on FP32 and INT8."""
    return Table(
        "Metrics",
        ("Metric", "Better", "FP32", "INT8", "Change"),
        "llrrr",
        tuple(
            (
                metric_title(metric.name),
                "lower" if metric.name in LOWER_IS_BETTER else "higher",
                number(metric.fp32),
                number(metric.int8),
                signed(metric.change),
            )
            for metric in evaluation.metrics
        ),
    )


def decisions_table(evaluation: Evaluation) -> Table:
    """Returns what happened at the operating threshold."""
    decisions = evaluation.decisions
    return Table(
        "Decisions",
        ("At the operating threshold", "Value"),
        "lr",
        (
            (f"Threshold ({decisions.threshold_rule})", number(decisions.threshold)),
            ("Rows compared", count(decisions.rows)),
            ("Positive rows", count(evaluation.positives)),
            ("Flagged by FP32", count(decisions.flagged_fp32)),
            ("Flagged by INT8", count(decisions.flagged_int8)),
            ("Changed from passed to flagged", count(decisions.to_flagged)),
            ("Changed from flagged to passed", count(decisions.to_passed)),
            ("Share of decisions changed", share(decisions.flip_share)),
            ("Its upper bound, one-sided 95 %", share(decisions.flip_share_upper)),
            ("Largest change of a score", number(decisions.largest_score_change)),
            ("PSI of the scores", number(decisions.score_psi)),
        ),
    )


def latency_table(evaluation: Evaluation) -> Table:
    """Returns the percentiles of both models per batch size; no rows when not measured."""
    rows = []
    for result in evaluation.latency:
        for model, calls_us in (
            (f"FP32 ({result.fp32_model})", result.fp32_us),
            ("INT8", result.int8_us),
        ):
            summary = summarize(calls_us)
            speedup = (
                f"{times(result.speedup)} ({result.speedup_low:.2f} to {result.speedup_high:.2f})"
            )
            percentiles = (summary.p50, summary.p95, summary.p99, summary.mean)
            rows.append(
                (
                    count(result.batch_size),
                    count(result.threads),
                    model,
                    *(microseconds(value) for value in percentiles),
                    count(summary.count),
                    speedup if model == "INT8" else "",
                )
            )
    header = ("Batch", "Threads", "Model", "p50", "p95", "p99", "mean", "Calls", "Speed-up (95 %)")
    return Table("Latency, µs per call", header, "rrlrrrrrr", tuple(rows))


def size_table(evaluation: Evaluation) -> Table:
    """Returns each file's size and its share of FP32."""
    sizes = evaluation.sizes_bytes
    return Table(
        "Size",
        ("Model", "Size", "Bytes", "Share of FP32"),
        "lrrr",
        tuple(
            (name.upper(), file_size(size), count(size), share(size / sizes["fp32"]))
            for name, size in sizes.items()
        ),
    )


def parity_table(evaluation: Evaluation) -> Table:
    """Returns how far simulation and runtime agree; no rows when there is no simulation."""
    parity = evaluation.parity
    rows = (
        ()
        if parity is None
        else (
            ("Simulation", parity.simulation),
            ("Rows compared", count(parity.rows)),
            ("Codes compared", count(parity.codes)),
            ("Equal codes", share(parity.equal_share)),
            ("Largest difference of a code, steps", count(parity.largest_code_difference)),
            ("Largest difference of the output", number(parity.largest_output_difference)),
        )
    )
    return Table("Simulation against runtime", ("Agreement", "Value"), "lr", rows)


def coverage_summary_table(nodes: Sequence[NodeCoverage]) -> Table:
    """Returns how many nodes got each treatment, and which operators they are."""
    operators: dict[str, Counter[str]] = {}
    for node in nodes:
        operators.setdefault(node.treatment, Counter())[node.op_type] += 1
    total = len(nodes)
    return Table(
        "Coverage",
        ("Treatment", "Nodes", "Share", "Operators"),
        "lrrl",
        tuple(
            (
                treatment,
                count(found.total()),
                share(found.total() / total),
                ", ".join(f"{op_type} {TIMES} {nodes}" for op_type, nodes in found.most_common()),
            )
            for treatment, found in sorted(operators.items(), key=lambda item: -item[1].total())
        ),
    )


def coverage_table(nodes: Sequence[NodeCoverage]) -> Table:
    """Returns every node: what was planned, why, and what the runtime executes."""
    return Table(
        "Every node",
        ("Node", "Operator", "Treatment", "Reason", "Runs as"),
        "lllll",
        tuple(
            (node.name, node.op_type, node.treatment, node.reason, node.runs_as) for node in nodes
        ),
    )


def representativeness_table(found: Representativeness, most: int) -> Table:
    """Returns the ``most`` worst columns of the calibration sample."""
    sample = count(found.rows["calibration"])
    return Table(
        f"Calibration sample, {sample} rows, against training and evaluation",
        ("Input", "Column", "PSI training", "PSI evaluation", "Beyond range", "Warnings"),
        "llrrrl",
        tuple(
            (
                fit.input,
                fit.column,
                *(
                    "" if psi is None else number(psi)
                    for psi in (fit.psi_training, fit.psi_evaluation)
                ),
                "" if fit.low is None else share(fit.outside_evaluation),
                "; ".join(fit.warnings),
            )
            for fit in found.columns[:most]
        ),
    )


def provenance_table(evaluation: Evaluation) -> Table:
    """Returns what was evaluated, from which files, by which versions, on which CPU."""
    return Table("Provenance", ("What", "Value"), "ll", tuple(evaluation.provenance.items()))
