"""Self-contained pages: they open offline, in light or dark, and print."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from qtool.evaluation.results import Evaluation
from qtool.evaluation.sample import Sample
from qtool.report import tables
from qtool.report.pictures import chapters
from qtool.report.reading_order import result_tables
from qtool.report.summary import description, facts, verdict
from qtool.report.svg import COLORS
from qtool.report.text import printable

OPEN_NODES = 40  # a longer list of nodes starts folded


def to_html(evaluation: Evaluation, sample: Sample) -> str:
    """Returns the page: verdict, headline numbers, pictures, tables, provenance, notes.

    Args:
        evaluation: the result.
        sample: the rows that it was made from, for the pictures.
    """
    every_node = tables.coverage_table(evaluation.coverage)
    return render(
        "page.html.j2",
        name=evaluation.name,
        description=description(evaluation),
        verdict=verdict(evaluation),
        facts=facts(evaluation),
        chapters=chapters(evaluation, sample),
        tables=result_tables(evaluation),
        every_node=every_node,
        unfolded=len(every_node.rows) <= OPEN_NODES,
        provenance=tables.provenance_table(evaluation),
        notes=evaluation.notes,
    )


def render(template: str, **values: Any) -> str:
    """Returns a page from a template of this package; all text is escaped."""
    environment = Environment(
        loader=PackageLoader("qtool", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.get_template(template).render(colors=COLORS, **values)


def _shown(value: object) -> object:
    """Returns what stands in the page for a value; markup of our own, the pictures, stays."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value)) if is_text else value
