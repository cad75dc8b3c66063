"""What a sweep shows of runs of several tasks."""

from __future__ import annotations

import dataclasses
import math
from xml.etree import ElementTree

from qtool.evaluation.results import Evaluation, GateResult
from qtool.report import sweep_pictures
from qtool.report.sweep import Swept, main_change, methods, sweep_tables, to_sweep_html


def swept(evaluation: Evaluation | None, name: str = "one", code: int = 0) -> Swept:
    return Swept(name, f"{name}.yaml", evaluation, 12.0, code, "error: it broke" if code else "")


def test_the_metric_of_a_run_is_that_of_its_first_gate_on_one(evaluation: Evaluation) -> None:
    gate = GateResult("brier_drop", "pass", 0.0, 0.0, 0.01, 0.95, "")
    size = GateResult("size_ratio", "pass", 0.25, 0.25, 0.3, math.nan, "")
    found = dataclasses.replace(evaluation, gates=(size, gate))
    change, limit = main_change(found)
    assert (change.name, limit) == ("brier", gate)
    shortfall = dataclasses.replace(evaluation.metrics[0], name="shortfall")
    own = dataclasses.replace(gate, name="shortfall_change")
    found = dataclasses.replace(evaluation, system=(shortfall,), gates=(own, gate))
    assert main_change(found) == (shortfall, own)
    assert main_change(dataclasses.replace(evaluation, gates=(size,)))[1] is None


def test_layers_are_counted_by_treatment(evaluation: Evaluation) -> None:
    node = evaluation.coverage[0]
    nodes = [("Gemm", "static")] * 3 + [("LSTM", "dynamic"), ("Gather", "storage")]
    nodes += [("Gather", "unchanged"), ("Relu", "static"), ("MatMul", "float")]
    coverage = tuple(
        dataclasses.replace(node, op_type=op_type, treatment=treatment)
        for op_type, treatment in nodes
    )
    found = dataclasses.replace(evaluation, coverage=coverage, qat=True)
    assert methods(found) == "static 3, dynamic 1, storage 1, float 1; QAT"


def test_what_failed_is_told_beside_what_did_not(evaluation: Evaluation) -> None:
    runs = (swept(evaluation), swept(None, "two", 5))
    changed, gained, *_, failed = sweep_tables(runs)
    assert [row[0] for row in changed.rows] == [row[0] for row in gained.rows] == ["one"]
    assert failed.rows == (("two", "5", "error: it broke"),)
    page = to_sweep_html(runs)
    assert "NO RESULT" in page
    assert "it broke" in to_sweep_html(runs[1:])


def test_an_endless_interval_can_be_drawn(evaluation: Evaluation) -> None:
    endless = dataclasses.replace(evaluation.metrics[0], low=-math.inf, high=math.inf)
    ElementTree.fromstring(sweep_pictures.changes([("one", endless, 0.001)]))
