"""The tables of a report as text cells; Markdown, the page and the console only lay them out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from qtool.data.column_fit import Representativeness
from qtool.evaluation.gates import gate_named
from qtool.evaluation.results import Evaluation, GateResult, MetricChange, NodeCoverage, Verdict
from qtool.report.text import (
    TIMES,
    between,
    count,
    file_size,
    gate_value,
    interval,
    number,
    share,
    signed,
)

WORDS: dict[Verdict, str] = {"pass": "passed", "fail": "FAILED", "undecided": "UNDECIDED"}


OF_A_GROUP = ("worst_segment_drop", "adverse_impact_drop")
"""Gates that one group of rows decides."""


@dataclass(frozen=True)
class Table:
    """Text cells; ``align`` has one letter per column, l or r."""

    title: str
    header: tuple[str, ...]
    align: str
    rows: tuple[tuple[str, ...], ...]


def gates_table(evaluation: Evaluation) -> Table:
    """Returns each gate with its value, the bound that was compared, its limit and the finding."""
    return Table(
        "Gates",
        ("Gate", "Result", "Value", "Bound", "Limit", "Finding"),
        "llrrrl",
        tuple(
            (
                gate.name,
                WORDS[gate.verdict],
                gate_value(gate.name, gate.value),
                _bound(gate),
                gate_limit(gate),
                f"{gate.text}{rows_needed(gate)}",
            )
            for gate in evaluation.gates
        ),
    )


def gate_limit(gate: GateResult) -> str:
    """Returns the limit of a gate in words."""
    found = gate_named(gate.name)
    bound = "" if found is None else f"{found.bound} "
    return f"{bound}{gate_value(gate.name, gate.limit)}"


def rows_needed(gate: GateResult) -> str:
    """Returns how many rows would decide a gate, as the end of a sentence; empty when decided."""
    if gate.verdict != "undecided":
        return ""
    if gate.rows_needed is None:
        return "; the interval holds the limit, and more of the same may not decide"
    rows = "rows of that group" if gate.name in OF_A_GROUP else "rows"
    return f"; about {count(gate.rows_needed)} {rows} would decide if the estimate stays"


def _bound(gate: GateResult) -> str:
    if math.isnan(gate.confidence):
        return ""
    return f"{gate_value(gate.name, gate.bound)} ({100 * gate.confidence:g} %)"


def metrics_table(evaluation: Evaluation) -> Table:
    """Returns each metric, and the cost, on FP32 and INT8, the change and its interval."""
    cost = None if evaluation.decisions is None else evaluation.decisions.cost
    metrics = (*evaluation.metrics, *(() if cost is None else (cost,)))
    return Table(
        "Metrics",
        ("Metric", "Better", "FP32", "INT8", *change_header(evaluation), "Interval by"),
        "llrrrrl",
        tuple(
            (metric.title, metric.better, *change_cells(metric), metric.interval)
            for metric in metrics
        ),
    )


def system_table(evaluation: Evaluation) -> Table:
    """Returns the figures of the user's system."""
    return Table(
        "In the system",
        ("Figure", "Better", "FP32", "INT8", *change_header(evaluation), "Units"),
        "llrrrrr",
        tuple(
            (found.title, found.better, *change_cells(found), count(found.rows))
            for found in (*evaluation.system, *evaluation.system_timed)
        ),
    )


def change_header(evaluation: Evaluation) -> tuple[str, str]:
    """Returns the titles of a change and of its interval."""
    return "Change", f"{level(evaluation)} interval"


def level(evaluation: Evaluation) -> str:
    """Returns the confidence of the intervals, which all share it."""
    return f"{100 * evaluation.metrics[0].confidence:g} %"


def change_cells(metric: MetricChange) -> tuple[str, str, str, str]:
    """Returns both values, the change and its interval."""
    return (
        number(metric.fp32),
        number(metric.int8),
        signed(metric.change),
        interval(metric.low, metric.high),
    )


def agreements_table(evaluation: Evaluation) -> Table:
    """Returns how often both models say the same."""
    return Table(
        "Agreement",
        ("FP32 and INT8 agree on", "Share", change_header(evaluation)[1], "Of"),
        "lrrl",
        tuple(
            (
                one.title,
                share(one.share),
                between(one.low, one.high),
                f"{count(one.count)} {one.units}",
            )
            for one in evaluation.agreements
        ),
    )


def tests_table(evaluation: Evaluation) -> Table:
    """Returns the p-values of the statistical tests of each model."""
    return Table(
        "Tests",
        ("Test", "A small p speaks against", "p of FP32", "p of INT8", "Statistics", "Source"),
        "llrrrl",
        tuple(
            (
                test.name,
                test.hypothesis,
                number(test.fp32),
                number(test.int8),
                f"{number(test.statistic_fp32)}, {number(test.statistic_int8)}",
                test.source,
            )
            for test in evaluation.tests
        ),
    )


def decisions_table(evaluation: Evaluation) -> Table:
    """Returns what happened at the operating threshold; no rows for tasks without one."""
    decisions = evaluation.decisions
    header = ("At the operating threshold", "Value")
    if decisions is None:
        return Table("Decisions", header, "lr", ())
    positives = () if evaluation.positives is None else (("Positive rows", evaluation.positives),)
    counts = (
        ("Rows compared", decisions.rows),
        *positives,
        ("Flagged by FP32", decisions.flagged_fp32),
        ("Flagged by INT8", decisions.flagged_int8),
        ("Changed from passed to flagged", decisions.to_flagged),
        ("Changed from flagged to passed", decisions.to_passed),
    )
    return Table(
        "Decisions",
        header,
        "lr",
        (
            (f"Threshold ({decisions.threshold_rule})", number(decisions.threshold)),
            *((name, count(value)) for name, value in counts),
            ("Share of decisions changed", share(decisions.flip_share)),
            ("Its upper bound, one-sided 95 %", share(decisions.flip_share_upper)),
            ("Decided correctly by FP32 only", count(decisions.right_fp32_only)),
            ("Decided correctly by INT8 only", count(decisions.right_int8_only)),
            ("McNemar's exact p: both err as often", number(decisions.mcnemar_p)),
            ("Largest change of a score", number(decisions.largest_score_change)),
            ("PSI of the scores", number(decisions.score_psi)),
            ("Rank correlation in the top decile", number(decisions.top_rank_correlation)),
        ),
    )


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


def moves_table(evaluation: Evaluation) -> Table:
    """Returns how far the outputs move."""
    rows = tuple((move.title, number(move.value)) for move in evaluation.moves)
    return Table("Outputs", ("From FP32 to INT8", "Value"), "lr", rows)


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
