"""Many experiments on one page, of any tasks: what INT8 changed and what it gained in each."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtool.evaluation.results import Evaluation, GateResult, LatencyResult, MetricChange
from qtool.report.comparison import disagreement
from qtool.report.html import render
from qtool.report.json import to_json
from qtool.report.latency import summarize
from qtool.report.markdown import table_lines
from qtool.report.pictures import Chapter, Picture
from qtool.report.summary import Verdict, verdict
from qtool.report.sweep_pictures import changes, sizes, speedups
from qtool.report.tables import Table, change_cells
from qtool.report.text import ABSENT, count, file_size, number, share

PRODUCTS = ("Gemm", "MatMul", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN")
"""Operators whose layers are counted whatever became of them."""
STORED = ("storage", "static", "dynamic", "weight_only")
"""What may become of a table; other lookups are no layers."""


@dataclass(frozen=True)
class Swept:
    """One config of a sweep.

    Attributes:
        name: of the experiment.
        config: its file.
        evaluation: None where there is none: the run failed before.
        seconds: spent on it, in all sweeps of this directory.
        code: exit code of its run.
        error: what its run said; empty when it went well.
    """

    name: str
    config: str
    evaluation: Evaluation | None
    seconds: float
    code: int
    error: str

    @property
    def outcome(self) -> str:
        """The verdict, or the exit code, in words."""
        if self.evaluation is None:
            return f"no result (exit code {self.code})"
        return verdict(self.evaluation).word.lower()


def main_change(evaluation: Evaluation) -> tuple[MetricChange, GateResult | None]:
    """Returns the metric or figure that the first gate on one is about, with that gate.

    Where no gate is on a metric it is the first metric.
    """
    known = {change.name: change for change in (*evaluation.metrics, *evaluation.system)}
    for gate in evaluation.gates:
        name, _, kind = gate.name.rpartition("_")
        if name in known and kind in ("drop", "change"):
            return known[name], gate
    return evaluation.metrics[0], None


def methods(evaluation: Evaluation) -> str:
    """Returns how many layers got which treatment, the most frequent first."""
    found = Counter(
        node.treatment
        for node in evaluation.coverage
        if node.op_type in PRODUCTS or (node.op_type == "Gather" and node.treatment in STORED)
    )
    text = ", ".join(f"{treatment} {layers}" for treatment, layers in found.most_common())
    return f"{text}; QAT" if evaluation.qat else text


def sweep_tables(runs: Sequence[Swept]) -> tuple[Table, ...]:
    """Returns what changed, what was gained, the systems' own figures, and what did not finish."""
    every = (changed_table(runs), gained_table(runs), systems_table(runs), _unfinished(runs))
    return tuple(table for table in every if table.rows)


def changed_table(runs: Sequence[Swept]) -> Table:
    """Returns the metric of the first gate of every run, and how often both models disagree."""
    columns = (
        "Metric",
        "FP32",
        "INT8",
        "Change",
        "Interval",
        "Limit",
        "Disagree",
        "Rows",
        "Verdict",
    )
    return Table(
        "What changed",
        ("Run", *columns),
        "llrrrrrrrl",
        tuple((run.name, *_changed(evaluation)) for run, evaluation in _evaluated(runs)),
    )


def gained_table(runs: Sequence[Swept]) -> Table:
    """Returns what became of the layers, the size, and the speed at every batch size."""
    return Table(
        "What was gained",
        (
            "Run",
            "Layers",
            "FP32",
            "INT8",
            "Size",
            "Speed-up by batch (95 %)",
            "INT8 µs, p50 (p99)",
            "Took",
        ),
        "llrrrllr",
        tuple(
            (
                run.name,
                methods(evaluation),
                *(file_size(evaluation.sizes_bytes[model]) for model in ("fp32", "int8")),
                share(evaluation.size_ratio),
                _each_batch(evaluation.latency, _speedup),
                _each_batch(evaluation.latency, _percentiles),
                f"{run.seconds:.0f} s",
            )
            for run, evaluation in _evaluated(runs)
        ),
    )


def systems_table(runs: Sequence[Swept]) -> Table:
    """Returns the figures that the users' systems have of their own."""
    return Table(
        "In their systems",
        ("Run", "Figure", "Better", "FP32", "INT8", "Change", "Interval", "Units"),
        "lllrrrrr",
        tuple(
            (run.name, found.title, found.better, *change_cells(found), count(found.rows))
            for run, evaluation in _evaluated(runs)
            for found in (*evaluation.system, *evaluation.system_timed)
        ),
    )


def to_sweep_html(runs: Sequence[Swept]) -> str:
    """Returns the page: verdicts, pictures, tables."""
    return render(
        "comparison.html.j2",
        title="Sweep",
        verdicts=[(run.name, _verdict(run)) for run in runs],
        warnings=(),
        chapters=sweep_chapters(runs),
        tables=sweep_tables(runs),
    )


def to_sweep_markdown(runs: Sequence[Swept]) -> str:
    """Returns all tables as GitHub-flavoured Markdown."""
    return "\n".join(line for table in sweep_tables(runs) for line in table_lines(table))


def to_sweep_json(
    runs: Sequence[Swept], machine: Mapping[str, Any], earlier: Mapping[str, Any]
) -> str:
    """Returns what the runs ended with, and the whole result of each.

    Args:
        runs: of the sweep.
        machine: what it was measured on.
        earlier: runs of the document that it replaces; those not run again stay.
    """
    found = {
        run.name: {
            "config": run.config,
            "code": run.code,
            "seconds": round(run.seconds, 1),
            "error": run.error,
            "result": None if run.evaluation is None else json.loads(to_json(run.evaluation)),
        }
        for run in runs
    }
    document = {"machine": dict(machine), "runs": {**earlier, **found}}
    return f"{json.dumps(document, indent=1, ensure_ascii=False)}\n"


def sweep_chapters(runs: Sequence[Swept]) -> list[Chapter]:
    """Returns the pictures: what INT8 changes, in units of what it may, how fast and how small."""
    found = [(run.name, evaluation) for run, evaluation in _evaluated(runs)]
    if not found:
        return []
    names, evaluations = zip(*found, strict=True)
    gated = [(name, *main_change(evaluation)) for name, evaluation in found]
    shares = [(name, change, gate.limit) for name, change, gate in gated if gate and gate.limit > 0]
    timed = [(name, evaluation.latency) for name, evaluation in found if evaluation.latency]
    pictures = [
        Picture(
            "Change of the metric",
            "How much worse INT8 is than FP32 with its interval, as a share of what the gate "
            "allows: right of the dashed line would be too much.",
            changes(shares),
            wide=True,
        )
        if shares
        else None,
        Picture(
            "Speed",
            "Times the speed of FP32 with its interval, at each batch size: right of the line "
            "INT8 is faster.",
            speedups(timed),
            wide=True,
        )
        if timed
        else None,
        Picture(
            "Size",
            "INT8 file as a share of FP32.",
            sizes(names, [evaluation.size_ratio for evaluation in evaluations]),
            wide=True,
        ),
    ]
    return [Chapter("All runs", tuple(picture for picture in pictures if picture is not None))]


def _evaluated(runs: Sequence[Swept]) -> list[tuple[Swept, Evaluation]]:
    return [(run, run.evaluation) for run in runs if run.evaluation is not None]


def _verdict(run: Swept) -> Verdict:
    if run.evaluation is not None:
        return verdict(run.evaluation)
    return Verdict("fail", "NO RESULT", f"Exit code {run.code}: {run.error}")


def _changed(evaluation: Evaluation) -> tuple[str, ...]:
    change, gate = main_change(evaluation)
    limit = ABSENT if gate is None else number(gate.limit)
    return (
        change.title,
        *change_cells(change),
        limit,
        disagreement(evaluation) or ABSENT,
        count(evaluation.rows),
        verdict(evaluation).word.lower(),
    )


def _each_batch(latency: Sequence[LatencyResult], text: Callable[[LatencyResult], str]) -> str:
    return "; ".join(f"{count(result.batch_size)}: {text(result)}" for result in latency) or ABSENT


def _speedup(result: LatencyResult) -> str:
    doubt = ", too noisy" if result.noisy else ""
    return f"{result.speedup:.2f} ({result.speedup_low:.2f} to {result.speedup_high:.2f}{doubt})"


def _percentiles(result: LatencyResult) -> str:
    found = summarize(result.int8_us)
    far = "" if math.isnan(found.p99) else f" ({found.p99:.0f})"
    return f"{found.p50:.0f}{far}"


def _unfinished(runs: Sequence[Swept]) -> Table:
    return Table(
        "Without a result",
        ("Run", "Exit code", "What it said"),
        "lrl",
        tuple((run.name, str(run.code), run.error) for run in runs if run.evaluation is None),
    )
