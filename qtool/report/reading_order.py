"""The tables of a result in reading order: what was decided, what changed, where, how fast, why."""

from __future__ import annotations

from qtool.evaluation.results import Evaluation
from qtool.report import group_tables, search_tables, speed_tables, tables
from qtool.report.tables import Table


def result_tables(evaluation: Evaluation, most: int | None = None) -> tuple[Table, ...]:
    """Returns every table that has rows, without the single nodes and the provenance.

    Args:
        evaluation: the result.
        most: how many segments, reasons and attacks, the worst ones; None for all of them.
    """
    found = (
        tables.gates_table(evaluation),
        tables.metrics_table(evaluation),
        tables.system_table(evaluation),
        tables.decisions_table(evaluation),
        tables.moves_table(evaluation),
        tables.agreements_table(evaluation),
        tables.tests_table(evaluation),
        group_tables.segments_table(evaluation, most),
        group_tables.fairness_table(evaluation),
        group_tables.monotonicity_table(evaluation),
        group_tables.reasons_table(evaluation, most),
        group_tables.robustness_table(evaluation, most),
        speed_tables.latency_table(evaluation),
        speed_tables.cost_table(evaluation),
        speed_tables.throughput_table(evaluation),
        speed_tables.cold_table(evaluation),
        tables.size_table(evaluation),
        search_tables.ancestors_table(evaluation),
        search_tables.pruning_table(evaluation),
        search_tables.search_table(evaluation, most),
        search_tables.tuning_table(evaluation, most),
        tables.parity_table(evaluation),
        tables.coverage_summary_table(evaluation.coverage),
    )
    return tuple(table for table in found if table.rows)
