"""The evaluation as GitHub-flavoured Markdown, for a pull request."""

from __future__ import annotations

from qtool.evaluation.results import Evaluation
from qtool.report.summary import description, facts, training_text, verdict
from qtool.report.tables import (
    Table,
    coverage_summary_table,
    decisions_table,
    gates_table,
    latency_table,
    metrics_table,
    parity_table,
    provenance_table,
    size_table,
)

# What would start markup, a table cell or HTML inside a cell.
ESCAPES = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "\\`*[]|"},
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "\n": " ",
        "\r": " ",
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
    tables = (
        gates_table(evaluation),
        metrics_table(evaluation),
        decisions_table(evaluation),
        latency_table(evaluation),
        size_table(evaluation),
        parity_table(evaluation),
        coverage_summary_table(evaluation.coverage),
        provenance_table(evaluation),
    )
    for table in tables:
        if table.rows:
            lines += _table(table)
    if evaluation.notes:
        lines += ["### Notes", "", *(f"* {_escape(note)}" for note in evaluation.notes), ""]
    return "\n".join(lines)


def _table(table: Table) -> list[str]:
    rule = (":---" if letter == "l" else "---:" for letter in table.align)
    cells = ([_escape(cell) for cell in row] for row in (table.header, *table.rows))
    header, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return [f"### {table.title}", "", header, f"| {' | '.join(rule)} |", *rows, ""]


def _escape(text: str) -> str:
    return text.translate(ESCAPES)
