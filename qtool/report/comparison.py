"""Several runs beside each other: verdicts, metrics with intervals, speed against quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from qtool.evaluation.results import Evaluation, GateResult, LatencyResult, MetricChange
from qtool.report.comparison_pictures import changes_by_run, pareto
from qtool.report.html import render
from qtool.report.json import to_json
from qtool.report.pictures import Chapter, Picture
from qtool.report.speed_tables import speedup_text
from qtool.report.summary import verdict
from qtool.report.tables import WORDS, Table, gate_limit
from qtool.report.text import (
    ABSENT,
    count,
    file_size,
    gate_value,
    interval,
    number,
    share,
    signed,
)

COMPARED_METRICS = 6


@dataclass(frozen=True)
class Judged:
    """One run and its evaluation; ``name`` tells it apart."""

    name: str
    evaluation: Evaluation


def comparison_tables(runs: Sequence[Judged]) -> tuple[Table, ...]:
    """Returns the runs, then their metrics, gates and speed-ups, one column per run."""
    every = (_runs(runs), _metrics(runs), _gates(runs), _speed(runs))
    return tuple(table for table in every if table.rows)


def warnings(runs: Sequence[Judged]) -> tuple[str, ...]:
    """Returns why figures of these runs cannot be compared."""
    found = []
    if len(set(_letters(runs, "data sha256"))) > 1:
        found.append(
            "The runs were judged on different data, marked by letters: figures of different "
            "letters cannot be compared."
        )
    elif len({run.evaluation.rows for run in runs}) > 1:
        found.append("The runs were judged on different rows of the same data.")
    if len(set(_letters(runs, "FP32 model sha256"))) > 1:
        found.append("The runs start from different FP32 models: changes have different baselines.")
    if len({run.evaluation.provenance.get("CPU") for run in runs}) > 1:
        found.append("The runs were timed on different CPUs: latencies cannot be compared.")
    return tuple(found)


def to_comparison_html(runs: Sequence[Judged]) -> str:
    """Returns the page: verdicts, warnings, pictures, tables."""
    return render(
        "comparison.html.j2",
        title=" / ".join(run.name for run in runs),
        verdicts=[(run.name, verdict(run.evaluation)) for run in runs],
        warnings=warnings(runs),
        chapters=_chapters(runs),
        tables=comparison_tables(runs),
    )


def to_comparison_json(runs: Sequence[Judged]) -> str:
    """Returns the warnings and the whole result of every run."""
    document: dict[str, Any] = {
        "warnings": list(warnings(runs)),
        "runs": {run.name: json.loads(to_json(run.evaluation)) for run in runs},
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _letters(runs: Sequence[Judged], key: str) -> list[str]:
    """Returns A for the first value of the provenance and all equal ones, then B, and so on."""
    values = [run.evaluation.provenance.get(key, "") for run in runs]
    order = list(dict.fromkeys(values))
    return [ascii_uppercase[order.index(value) % len(ascii_uppercase)] for value in values]


def _shared_metrics(runs: Sequence[Judged]) -> list[str]:
    """Names of the metrics that every run has, in the order of the first."""
    others = [{metric.name for metric in run.evaluation.metrics} for run in runs]
    first = runs[0].evaluation.metrics
    return [metric.name for metric in first if all(metric.name in names for names in others)]


def _metric(run: Judged, name: str) -> MetricChange:
    return next(metric for metric in run.evaluation.metrics if metric.name == name)


def _shared_timing(runs: Sequence[Judged]) -> list[LatencyResult] | None:
    """Of each run the latency at the largest batch size and threads that all measured."""
    timed = [{(r.batch_size, r.threads): r for r in run.evaluation.latency} for run in runs]
    shared = set.intersection(*(set(found) for found in timed))
    return [found[max(shared)] for found in timed] if shared else None


def _chapters(runs: Sequence[Judged]) -> list[Chapter]:
    names, labels = _shared_metrics(runs), [run.name for run in runs]
    changes = tuple(
        Picture(
            _metric(runs[0], name).title,
            "How much worse INT8 is than FP32 in each run, with its interval: left of the line it "
            "is better.",
            changes_by_run(labels, [_metric(run, name) for run in runs]),
        )
        for name in names[:COMPARED_METRICS]
    )
    found = (
        Chapter("Speed against quality", _pareto(runs, names[:1])),
        Chapter("Change of the metrics", changes),
    )
    return [chapter for chapter in found if chapter.pictures]


def _pareto(runs: Sequence[Judged], names: Sequence[str]) -> tuple[Picture, ...]:
    timing = _shared_timing(runs)
    if timing is None:
        return ()
    data = _letters(runs, "data sha256")
    return tuple(
        Picture(
            f"At batch size {count(timing[0].batch_size)}",
            "Time of INT8 as a share of FP32, and how much worse its "
            f"{_metric(runs[0], name).title} is: the best runs lie at the lower left. Larger marks "
            "are larger files; hollow ones were judged on other data than the first run. Lines: "
            "intervals.",
            pareto(
                [run.name for run in runs],
                timing,
                [_metric(run, name) for run in runs],
                [run.evaluation.sizes_bytes["int8"] for run in runs],
                [one != data[0] for one in data],
            ),
            wide=True,
        )
        for name in names
    )


def _runs(runs: Sequence[Judged]) -> Table:
    data, fp32 = _letters(runs, "data sha256"), _letters(runs, "FP32 model sha256")
    return Table(
        "Runs",
        ("Run", "Verdict", "Method", "Rows", "Changed", "Size", "Of FP32", "Data", "FP32 model"),
        "lllrrrrll",
        tuple(
            (
                run.name,
                verdict(run.evaluation).word,
                f"{run.evaluation.method}{', QAT' if run.evaluation.qat else ''}",
                count(run.evaluation.rows),
                disagreement(run.evaluation),
                file_size(run.evaluation.sizes_bytes["int8"]),
                share(run.evaluation.size_ratio),
                data[place],
                fp32[place],
            )
            for place, run in enumerate(runs)
        ),
    )


def disagreement(evaluation: Evaluation) -> str:
    """Returns the decisions that changed, or what does not agree; empty where there is neither."""
    if evaluation.decisions is not None:
        return share(evaluation.decisions.flip_share)
    return share(1 - evaluation.agreements[0].share) if evaluation.agreements else ""


def _metrics(runs: Sequence[Judged]) -> Table:
    return Table(
        "Metrics of INT8, and change against FP32",
        ("Metric", *(run.name for run in runs)),
        "l" + "r" * len(runs),
        tuple(
            (
                _metric(runs[0], name).title,
                *(_change(_metric(run, name)) for run in runs),
            )
            for name in _shared_metrics(runs)
        ),
    )


def _change(metric: MetricChange) -> str:
    ends = interval(metric.low, metric.high)
    text = f"{number(metric.int8)}, {signed(metric.change)}"
    return f"{text} ({100 * metric.confidence:g} %: {ends})" if ends else text


def _gates(runs: Sequence[Judged]) -> Table:
    names = list(dict.fromkeys(gate.name for run in runs for gate in run.evaluation.gates))
    by_run = [{gate.name: gate for gate in run.evaluation.gates} for run in runs]
    return Table(
        "Gates",
        ("Gate", *(run.name for run in runs)),
        "l" + "l" * len(runs),
        tuple((name, *(_gate(gates.get(name)) for gates in by_run)) for name in names),
    )


def _gate(gate: GateResult | None) -> str:
    if gate is None:
        return "not set"
    return f"{WORDS[gate.verdict]}: {gate_value(gate.name, gate.value)}, {gate_limit(gate)}"


def _speed(runs: Sequence[Judged]) -> Table:
    """Speed-ups at every batch size and number of threads that any run measured."""
    timed = [{(r.batch_size, r.threads): r for r in run.evaluation.latency} for run in runs]
    places = sorted(set().union(*timed))
    return Table(
        "Speed-up of INT8 over FP32 (95 %)",
        ("Batch", "Threads", *(run.name for run in runs)),
        "rr" + "r" * len(runs),
        tuple(
            (
                count(place[0]),
                count(place[1]),
                *(speedup_text(found[place]) if place in found else ABSENT for found in timed),
            )
            for place in places
        ),
    )
