"""What a reader could misunderstand: cut numbers, units, levels of confidence, strange names."""

from __future__ import annotations

import dataclasses
import io
import math

import pytest
from rich.console import Console

from qtool.evaluation.results import Evaluation, GateResult, LatencyResult
from qtool.report.console import console_result
from qtool.report.group_tables import (
    fairness_table,
    reasons_table,
    robustness_table,
    segments_table,
)
from qtool.report.speed_tables import latency_table
from qtool.report.svg import shown_label
from qtool.report.tables import rows_needed
from qtool.report.text import gate_value


def test_a_narrow_terminal_cuts_no_number(full: Evaluation) -> None:
    numbers = " ".join(cell for row in segments_table(full, 5).rows for cell in row[3:6])
    printed = io.StringIO()
    Console(file=printed, width=60, soft_wrap=True).print(console_result(full))
    assert "0.89000" in numbers
    assert set(numbers.split()) <= set(printed.getvalue().split())


def test_bounds_and_intervals_say_their_confidence(full: Evaluation) -> None:
    assert segments_table(full).header[-1] == "At most (95 %)"
    assert "(95 % interval " in reasons_table(full).rows[0][2]
    assert full.reasons is not None
    nothing = dataclasses.replace(full.reasons, overlap=math.nan, low=math.nan, high=math.nan)
    table = reasons_table(dataclasses.replace(full, reasons=nothing))
    assert table.rows[0][2] == "not measured"


def test_ratios_are_no_percentages_and_differences_of_shares_are_points(full: Evaluation) -> None:
    assert not any("%" in cell for row in fairness_table(full).rows for cell in row[4:])
    points = [row[8] for row in robustness_table(full).rows if row[8]]
    assert points
    assert all(cell.endswith(" pp") for cell in points)
    assert gate_value("robustness_drop", 0.05) == "5.00 pp"
    assert gate_value("decision_flips", 0.05) == "5.00 %"


def test_notes_of_attacks_have_a_column_of_their_own(full: Evaluation) -> None:
    first = dataclasses.replace(full.robustness[1], note="rows follow FP32")
    noted = robustness_table(dataclasses.replace(full, robustness=(first,)))
    assert (noted.rows[0][0], noted.header[-1]) == (first.kind, "Notes")
    assert noted.rows[0][-1] == "rows follow FP32"
    plain = dataclasses.replace(first, note="")
    bare = robustness_table(dataclasses.replace(full, robustness=(plain,)))
    assert "Notes" not in bare.header


def test_percentiles_of_an_interrupted_machine_are_marked(full: Evaluation) -> None:
    calls = tuple(float(us) for us in range(100, 400))
    result = LatencyResult(1, 1, "prepared", calls, calls, 1.0, 0.9, 1.1, preempted=0.031)
    table = latency_table(dataclasses.replace(full, latency=(result,)))
    cells = dict(zip(table.header, table.rows[1], strict=True))
    assert cells["Interrupted"] == "3.10 %"
    assert cells["p99"] == "too few calls"
    calm = dataclasses.replace(result, preempted=0.0)
    assert "Interrupted" not in latency_table(dataclasses.replace(full, latency=(calm,))).header


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("auc_drop", "; about 76 rows would decide if the estimate stays"),
        ("worst_segment_drop", "; about 76 rows of that group would decide if the estimate stays"),
    ],
)
def test_the_rows_that_are_missing_are_those_of_the_group(name: str, text: str) -> None:
    gate = GateResult(name, "undecided", 0.004, 0.011, 0.01, 0.95, "text", 76)
    assert rows_needed(gate) == text


def test_labels_of_pictures_are_printable() -> None:
    assert shown_label("a\x00b\nc\x01") == "a?b c?"
