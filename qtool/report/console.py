"""The evaluation as a rich renderable: the result that the command prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from qtool.data.column_fit import Representativeness
from qtool.evaluation.results import Evaluation, NodeCoverage
from qtool.report.reading_order import result_tables
from qtool.report.summary import Verdict, description, verdict
from qtool.report.tables import (
    WORDS,
    Table,
    coverage_summary_table,
    coverage_table,
    representativeness_table,
)
from qtool.report.text import printable

WORST_COLUMNS = 10
LONGEST = 5
LONGEST_WORD = 24
"""Characters; longer words, which are names or digests, are folded."""
STYLES = {
    "pass": "bold green",
    "fail": "bold red",
    "undecided": "bold yellow",
    "open": "bold yellow",
}
ROW_STYLES = {WORDS["fail"]: "red", WORDS["undecided"]: "yellow"}


def console_result(evaluation: Evaluation) -> RenderableType:
    """Returns the tables and, last, where the eye rests, the verdict; the gates stand above it."""
    found = verdict(evaluation)
    gates_last = sorted(
        result_tables(evaluation, LONGEST), key=lambda table: table.title == "Gates"
    )
    # Text, not str: rich reads [brackets] in a str as markup, and names may hold them.
    return Group(
        Text(f"{evaluation.name}: {description(evaluation)}", style="bold"),
        *(_table(table) for table in gates_last),
        Text.assemble((found.word, STYLES[found.outcome]), f"  {found.text}"),
    )


def console_tables(found: Sequence[Table], warnings: Sequence[str]) -> RenderableType:
    """Returns tables and, below them, what to beware of."""
    return Group(
        *(_table(table) for table in found),
        *(Text(warning, style=STYLES["undecided"]) for warning in warnings),
    )


def console_advice(
    found: Sequence[Table], warnings: Sequence[str], advice: Verdict
) -> RenderableType:
    """Returns tables, what to beware of and, last, the advice."""
    return Group(
        console_tables(found, warnings),
        Text.assemble((advice.word, STYLES[advice.outcome]), f"  {advice.text}"),
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
    result = RichTable(
        title=Text(table.title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    rows = [[printable(cell) for cell in row] for row in table.rows]
    for place, (name, letter) in enumerate(zip(table.header, table.align, strict=True)):
        words = " ".join((name, *(row[place] for row in rows))).split()
        result.add_column(
            Text(name),
            justify="left" if letter == "l" else "right",
            overflow="fold",
            # A number that a narrow terminal cuts is another number: the lines get longer instead.
            min_width=min(max(map(len, words), default=0), LONGEST_WORD),
        )
    for row in rows:
        style = next((ROW_STYLES[cell] for cell in row if cell in ROW_STYLES), "")
        result.add_row(*(Text(cell) for cell in row), style=style)
    return result
