"""The evaluation as GitHub-flavoured Markdown, for a pull request."""

from __future__ import annotations

from qtool.evaluation.results import Evaluation
from qtool.report.reading_order import result_tables
from qtool.report.summary import description, facts, training_text, verdict
from qtool.report.tables import Table, provenance_table
from qtool.report.text import printable

LONGEST = 10

# What would start markup, a table cell or HTML inside a cell.
ESCAPES = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "\\`*[]|"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
    }
)


def to_markdown(evaluation: Evaluation) -> str:
    """Returns the verdict first, then the gates and the other tables; empty tables are left out."""
    found = verdict(evaluation)
    history = evaluation.training
    training = [] if history is None else [f"* Training: {training_text(history)}"]
    lines = [
        f"## {_escape(evaluation.name)}: {found.word}",
        "",
        f"**{_escape(found.text)}** {_escape(description(evaluation))}.",
        "",
        *(f"* {fact.label}: **{fact.value}** {fact.detail}" for fact in facts(evaluation)),
        *training,
        "",
    ]
    for table in (*result_tables(evaluation, LONGEST), provenance_table(evaluation)):
        if table.rows:
            lines += table_lines(table)
    if evaluation.notes:
        lines += ["### Notes", "", *(f"* {_escape(note)}" for note in evaluation.notes), ""]
    return "\n".join(lines)


def table_lines(table: Table) -> list[str]:
    """Returns a table under its title."""
    rule = (":---" if letter == "l" else "---:" for letter in table.align)
    cells = ([_escape(cell) for cell in row] for row in (table.header, *table.rows))
    header, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return [f"### {_escape(table.title)}", "", header, f"| {' | '.join(rule)} |", *rows, ""]


def _escape(text: str) -> str:
    return printable(text).translate(ESCAPES)
