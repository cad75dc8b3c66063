"""The evaluation as a rich renderable: the result that the command prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from qtool.data.column_fit import Representativeness
from qtool.evaluation.results import Evaluation, NodeCoverage
from qtool.report.summary import description, verdict
from qtool.report.tables import (
    Table,
    coverage_summary_table,
    coverage_table,
    decisions_table,
    gates_table,
    latency_table,
    metrics_table,
    representativeness_table,
    size_table,
)

WORST_COLUMNS = 10
STYLES = {"pass": "bold green", "fail": "bold red", "open": "bold yellow"}


def console_result(evaluation: Evaluation) -> RenderableType:
    """Returns the tables and, last, where the eye rests, the verdict; empty tables are left out."""
    tables = (
        metrics_table(evaluation),
        decisions_table(evaluation),
        latency_table(evaluation),
        size_table(evaluation),
        coverage_summary_table(evaluation.coverage),
        gates_table(evaluation),
    )
    found = verdict(evaluation)
    # Text, not str: rich reads [brackets] in a str as markup, and names may hold them.
    return Group(
        Text(f"{evaluation.name}: {description(evaluation)}", style="bold"),
        *(_table(table) for table in tables if table.rows),
        Text.assemble((found.word, STYLES[found.outcome]), f"  {found.text}"),
    )


def console_coverage(nodes: Sequence[NodeCoverage]) -> RenderableType:
    """Returns every node with its treatment and reason, then the summary."""
    return Group(_table(coverage_table(nodes)), _table(coverage_summary_table(nodes)))


def console_representativeness(found: Representativeness) -> RenderableType:
    """Returns the worst columns of the calibration sample, and how many columns warn."""
    warned = sum(bool(fit.warnings) for fit in found.columns)
    summary = f"{warned} of {len(found.columns)} columns with warnings"
    style = STYLES["open" if warned else "pass"]
    return Group(_table(representativeness_table(found, WORST_COLUMNS)), Text(summary, style=style))


def _table(table: Table) -> RichTable:
    result = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
    for name, letter in zip(table.header, table.align, strict=True):
        result.add_column(Text(name), justify="left" if letter == "l" else "right")
    for row in table.rows:
        style = "red" if "FAILED" in row else ""
        result.add_row(*(Text(cell) for cell in row), style=style)
    return result
