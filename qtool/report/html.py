"""The evaluation as one self-contained page: it opens offline, in light or dark, and prints."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from qtool.evaluation.results import Evaluation, Scores
from qtool.report import tables
from qtool.report.pictures import make_pictures
from qtool.report.summary import description, facts, verdict
from qtool.report.svg import COLORS

OPEN_NODES = 40  # a longer list of nodes starts folded


def to_html(evaluation: Evaluation, scores: Scores) -> str:
    """Returns the page: verdict, headline numbers, pictures, tables, provenance, notes.

    Args:
        evaluation: the result.
        scores: the rows that it was made from, for the pictures.
    """
    environment = Environment(
        loader=PackageLoader("qtool", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    every_node = tables.coverage_table(evaluation.coverage)
    shown = (
        tables.gates_table(evaluation),
        tables.metrics_table(evaluation),
        tables.decisions_table(evaluation),
        tables.latency_table(evaluation),
        tables.size_table(evaluation),
        tables.parity_table(evaluation),
        tables.coverage_summary_table(evaluation.coverage),
    )
    return environment.get_template("page.html.j2").render(
        name=evaluation.name,
        description=description(evaluation),
        verdict=verdict(evaluation),
        facts=facts(evaluation),
        pictures=make_pictures(evaluation, scores),
        tables=[table for table in shown if table.rows],
        every_node=every_node,
        unfolded=len(every_node.rows) <= OPEN_NODES,
        provenance=tables.provenance_table(evaluation),
        notes=evaluation.notes,
        colors=COLORS,
    )
