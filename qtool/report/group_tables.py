"""Tables of what was judged per group of rows, per column, and on changed rows."""

from __future__ import annotations

import math

from qtool.evaluation.results import Evaluation, SegmentChange, StressResult
from qtool.report.tables import Table, change_cells, change_header, level
from qtool.report.text import (
    ABSENT,
    between,
    count,
    interval,
    number,
    points_interval,
    share,
    signed,
    signed_points,
)

NO_CHANGE = "no attack"


def by_drop(segments: tuple[SegmentChange, ...]) -> list[SegmentChange]:
    """Returns the segments, the largest drop first, those without a metric last."""
    return sorted(segments, key=lambda one: (math.isnan(one.metric.drop), -one.metric.drop))


def segments_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """Returns the first metric per segment; with ``most`` only the worst ones."""
    segments = evaluation.segments
    header = ("Column", "Value", "Rows", "FP32", "INT8", *change_header(evaluation))
    changed = ("Changed", f"At most ({level(evaluation)})")
    if not segments:
        return Table("Segments", header, "llrrrrr", ())
    title = f"{segments[0].metric.title} by segment"
    if most is not None and len(segments) > most:
        title = f"{title}: the worst {most} of {count(len(segments))}"
    flips = any(one.flips is not None for one in segments)
    return Table(
        title,
        (*header, *(changed if flips else ())),
        "llrrrrr" + ("rr" if flips else ""),
        tuple(
            (
                one.column,
                one.value,
                count(one.rows),
                *change_cells(one.metric),
                *(_flips(one) if flips else ()),
            )
            for one in (segments if most is None else by_drop(segments)[:most])
        ),
    )


def _flips(segment: SegmentChange) -> tuple[str, str]:
    if segment.flips is None:
        return ABSENT, ABSENT
    return count(segment.flips), share(segment.flip_share_upper)


def fairness_table(evaluation: Evaluation) -> Table:
    """Returns the adverse impact ratio of each group."""
    return Table(
        "Adverse impact ratio",
        ("Column", "Group", "Against", "Rows", "FP32", "INT8", *change_header(evaluation)),
        "lllrrrrr",
        tuple(
            (
                one.column,
                one.group,
                one.reference,
                count(one.rows),
                number(one.fp32),
                number(one.int8),
                signed(one.int8 - one.fp32),
                interval(one.low, one.high),
            )
            for one in evaluation.fairness
        ),
    )


def monotonicity_table(evaluation: Evaluation) -> Table:
    """Returns the steps of each column that go against its direction."""
    return Table(
        "Monotonicity",
        (
            "Column",
            "Direction",
            "Steps",
            "Against it, FP32",
            "INT8",
            "Largest wrong move, FP32",
            "Largest, INT8",
        ),
        "llrrrrr",
        tuple(
            (
                one.column,
                one.direction,
                count(one.steps),
                count(one.fp32),
                count(one.int8),
                number(one.largest_fp32),
                number(one.largest_int8),
            )
            for one in evaluation.monotonicity
        ),
    )


def reasons_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """Returns how stable the reasons are, then how often each column is one."""
    reasons = evaluation.reasons
    if reasons is None:
        return Table("Reasons", ("Reason codes", "FP32", "INT8"), "lrr", ())
    both = share(reasons.overlap)
    if not math.isnan(reasons.low):
        both += f" ({level(evaluation)} interval {between(reasons.low, reasons.high)})"
    return Table(
        "Reasons",
        (f"First {reasons.top} columns of {count(reasons.rows)} rows", "FP32", "INT8"),
        "lrr",
        (
            (f"Columns that both name, by {reasons.method}", "", both),
            ("Rows with the same first column", "", share(reasons.same_first)),
            *((name, count(a), count(b)) for name, (a, b) in _by_count(reasons.columns)[:most]),
        ),
    )


def _by_count(columns: dict[str, tuple[int, int]]) -> list[tuple[str, tuple[int, int]]]:
    return sorted(columns.items(), key=lambda item: -max(item[1]))


def _turned(stress: StressResult) -> tuple[str, str, str, str]:
    if math.isnan(stress.difference):
        return ("",) * 4
    return (
        count(stress.succeeded_fp32),
        count(stress.succeeded_int8),
        signed_points(stress.difference),
        points_interval(stress.low, stress.high),
    )


def by_harm(results: tuple[StressResult, ...]) -> list[StressResult]:
    """Returns the results, that which turns most decisions of INT8 alone first; else by the drop.

    Those without either stand last.
    """

    def key(one: StressResult) -> tuple[bool, float]:
        harm = one.metric.drop if math.isnan(one.difference) else one.difference
        return math.isnan(harm), -harm

    return sorted(results, key=key)


def robustness_table(evaluation: Evaluation, most: int | None = None) -> Table:
    """Returns what each attack and stress does to both models, below the rows as they are.

    With ``most`` only the worst of them.
    """
    _, interval_title = change_header(evaluation)
    title = "Attacks and stress"
    before = [one for one in evaluation.robustness if not one.level]
    changed = tuple(one for one in evaluation.robustness if one.level)
    results = [*before, *changed]
    if most is not None and len(changed) > most:
        results = [*before, *by_harm(changed)[:most]]
        title = f"{title}: the worst {most} of {count(len(changed))}"
    notes = any(one.note for one in results)
    return Table(
        title,
        (
            "Kind",
            "Level",
            "Rows",
            "Metric",
            "FP32",
            "INT8",
            "Turned, FP32",
            "Turned, INT8",
            "More of INT8",
            interval_title,
            *(("Notes",) if notes else ()),
        ),
        "lrrlrrrrrr" + ("l" if notes else ""),
        tuple(
            (
                one.kind if one.level else NO_CHANGE,
                f"{one.level:g}" if one.level else "",
                count(one.rows),
                one.metric.title,
                number(one.metric.fp32),
                number(one.metric.int8),
                *_turned(one),
                *((one.note,) if notes else ()),
            )
            for one in results
        ),
    )
