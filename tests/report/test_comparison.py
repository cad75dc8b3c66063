from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from rich.console import Console

from qtool.evaluation.results import Evaluation
from qtool.report.comparison import (
    Judged,
    comparison_tables,
    to_comparison_html,
    to_comparison_json,
    warnings,
)
from qtool.report.console import console_tables

Make = Callable[..., tuple[Judged, ...]]


@pytest.fixture
def make_runs(full: Evaluation, undecided: Evaluation) -> Make:
    """Two runs of the same data and FP32 model; the second is dynamic, undecided and smaller."""

    def make(**changes: object) -> tuple[Judged, ...]:
        second = dataclasses.replace(
            full,
            method="dynamic",
            metrics=undecided.metrics[:1],
            gates=undecided.gates,
            sizes_bytes={"fp32": 4_000_000, "int8": 550_000},
        )
        return Judged("first", full), Judged("second", dataclasses.replace(second, **changes))

    return make


def by_title(runs: tuple[Judged, ...]) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {table.title: table.rows for table in comparison_tables(runs)}


def test_runs_stand_beside_each_other(make_runs: Make) -> None:
    tables = by_title(make_runs())
    assert [row[:4] for row in tables["Runs"]] == [
        ("first", "PASSED", "static, QAT", "4,000"),
        ("second", "UNDECIDED", "dynamic, QAT", "4,000"),
    ]
    assert [row[-2:] for row in tables["Runs"]] == [("A", "A"), ("A", "A")]
    (auc,) = tables["Metrics of INT8, and change against FP32"]  # Brier is of the first run only
    assert auc[0] == "AUC"
    assert auc[2].startswith("0.95950, \u22120.00050 (")
    gates = {row[0]: row[1:] for row in tables["Gates"]}
    assert gates["auc_drop"][1] == "UNDECIDED: 0.00050, at most 0.00200"


def test_other_data_are_marked(make_runs: Make) -> None:
    assert warnings(make_runs()) == ()
    runs = make_runs(
        provenance={"data sha256": "other", "FP32 model sha256": "xy", "CPU": "another"}
    )
    assert [row[-2:] for row in by_title(runs)["Runs"]] == [("A", "A"), ("B", "B")]
    data, fp32, cpu = warnings(runs)
    assert "different data" in data
    assert "different FP32 models" in fp32
    assert "different CPUs" in cpu
    assert to_comparison_html(runs).count("CAUTION") == 3
    (rows,) = warnings(make_runs(rows=3999))
    assert "different rows of the same data" in rows


def test_the_page_is_self_contained(make_runs: Make) -> None:
    page = to_comparison_html(make_runs())
    assert not re.search(r"https?:|@import|url\((?!#)|<script", page)
    assert page.count("<h3>") == 2  # speed against quality, AUC
    assert "At batch size 256" in page
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(svg)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_speed_is_compared_where_all_measured_it(make_runs: Make, full: Evaluation) -> None:
    small = to_comparison_html(make_runs(latency=full.latency[:1]))
    assert "At batch size 1<" in small
    none = make_runs(latency=())
    assert "At batch size" not in to_comparison_html(none)
    speed = by_title(none)["Speed-up of INT8 over FP32 (95 %)"]
    assert {row[-1] for row in speed} == {"not measured"}


def test_runs_without_a_common_metric_have_tables_only(make_runs: Make, full: Evaluation) -> None:
    other = dataclasses.replace(full.metrics[0], name="own:score")
    page = to_comparison_html(make_runs(metrics=(other,)))
    assert "<svg" not in page
    assert "<h2>Runs</h2>" in page


def test_json_holds_every_result(make_runs: Make) -> None:
    document = json.loads(to_comparison_json(make_runs()))
    assert list(document["runs"]) == ["first", "second"]
    assert document["runs"]["second"]["method"] == "dynamic"
    assert document["warnings"] == []


def test_the_console_ends_with_the_warnings(make_runs: Make) -> None:
    runs = make_runs(rows=5)
    console = Console(file=io.StringIO(), width=200)
    console.print(console_tables(comparison_tables(runs), warnings(runs)))
    assert console.file.getvalue().rstrip().endswith("different rows of the same data.")  # type: ignore[attr-defined]
