"""The model card: one Markdown page on what the INT8 model is, was compared with, and needs.

The sections follow Mitchell et al. 2019, "Model Cards for Model Reporting", arXiv 1810.03993.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtool.evaluation.results import Evaluation, MetricChange

ESCAPES = str.maketrans({"|": "\\|", "&": "&amp;", "<": "&lt;", ">": "&gt;", "\n": " ", "\r": " "})
"""Of what would end a cell or start HTML: names of columns may hold anything."""


@dataclass(frozen=True)
class Interface:
    """One input or output of the deployed model, in words."""

    name: str
    dtype: str
    shape: str
    meaning: str


def model_card(
    evaluation: Evaluation,
    inputs: Sequence[Interface],
    outputs: Sequence[Interface],
    rows: Mapping[str, int],
    positives: Mapping[str, int],
) -> str:
    """Returns the card.

    Args:
        evaluation: what was measured.
        inputs: how the model is fed.
        outputs: what it returns.
        rows: rows of each split.
        positives: rows with label 1 of each split; empty but for binary classification.
    """
    task = evaluation.task.replace("_", " ")
    how = "quantization-aware training" if evaluation.qat else "post-training quantization"
    treatments = Counter(node.treatment for node in evaluation.coverage)
    lines = [
        f"# {evaluation.name}: INT8 model card",
        "",
        "## Model",
        "",
        f"An INT8 ONNX model for {task}, made from an FP32 model by {how} (method "
        f"{evaluation.method}). It runs in ONNX Runtime on the CPU.",
        "",
        *_table(("Input", "dtype", "shape", "meaning"), [_cells(item) for item in inputs]),
        "",
        *_table(("Output", "dtype", "shape", "meaning"), [_cells(item) for item in outputs]),
        "",
        "## Intended use",
        "",
        f"To take the place of its FP32 model{_threshold(evaluation)}, on rows like those below. "
        "Other data are not covered by this evidence.",
        "",
        "## Data",
        "",
        *_data(rows, positives),
        "",
        "## Evidence",
        "",
        *_table(
            ("Metric", "FP32", "INT8", "change", "interval of the change"),
            [_metric(metric) for metric in evaluation.metrics],
        ),
        "",
        *_agreement(evaluation),
        *_gates(evaluation),
        *_latency(evaluation),
        "",
        "Nodes by treatment: "
        + ", ".join(f"{count} {treatment}" for treatment, count in sorted(treatments.items()))
        + ". Each one with its reason is in coverage.json.",
        "",
        "## Limits",
        "",
        *(f"* {note}" for note in evaluation.notes),
        "* The evidence compares INT8 with FP32; it does not say that the FP32 model is fair or "
        "well specified.",
        "",
        "## Provenance",
        "",
        *_table(("What", "value"), list(evaluation.provenance.items())),
        "",
    ]
    return "\n".join(lines)


def _threshold(evaluation: Evaluation) -> str:
    decisions = evaluation.decisions
    if decisions is None:
        return ""
    return f" at the operating threshold {decisions.threshold:.6g} ({decisions.threshold_rule})"


def _data(rows: Mapping[str, int], positives: Mapping[str, int]) -> list[str]:
    if not positives:
        return _table(("Split", "rows"), [(split, f"{count:,}") for split, count in rows.items()])
    return _table(
        ("Split", "rows", "positives"),
        [(split, f"{count:,}", f"{positives[split]:,}") for split, count in rows.items()],
    )


def _metric(metric: MetricChange) -> tuple[str, ...]:
    ends = "none"
    if not math.isnan(metric.low):
        ends = f"{metric.low:+.3g} to {metric.high:+.3g} ({100 * metric.confidence:g} %, "
        ends += f"{metric.interval})"
    return (
        metric.title,
        f"{metric.fp32:.6g}",
        f"{metric.int8:.6g}",
        f"{metric.change:+.3g}",
        ends,
    )


def _agreement(evaluation: Evaluation) -> list[str]:
    """A paragraph for the decisions, and one for everything else that both models may agree on."""
    decisions = evaluation.decisions
    lines = []
    if decisions is not None:
        lines = [
            f"Decisions that changed: {decisions.to_flagged + decisions.to_passed} of "
            f"{decisions.rows:,} ({decisions.flip_share:.4%}; with 95 % confidence at most "
            f"{decisions.flip_share_upper:.4%}).",
            "",
        ]
    for one in evaluation.agreements:
        lines += [f"{one.title}: {one.share:.4%} of {one.count:,} {one.units}.", ""]
    return lines


def _gates(evaluation: Evaluation) -> list[str]:
    if not evaluation.gates:
        return ["No gate was set, so nothing was decided.", ""]
    rows = [(gate.name, gate.verdict, gate.text) for gate in evaluation.gates]
    return [*_table(("Gate", "verdict", "finding"), rows), ""]


def _latency(evaluation: Evaluation) -> list[str]:
    if not evaluation.latency:
        return ["Latency was not measured."]
    rows = [
        (
            str(r.batch_size),
            str(r.threads),
            f"{r.speedup:.2f}",
            f"{r.speedup_low:.2f} to {r.speedup_high:.2f}",
            r.finding,
        )
        for r in evaluation.latency
    ]
    header = ("Batch size", "threads", "FP32 / INT8 latency", "95 % interval", "INT8 is")
    return _table(header, rows)


def _cells(item: Interface) -> tuple[str, ...]:
    return (f"`{item.name}`", item.dtype, item.shape, item.meaning)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.translate(ESCAPES) for cell in line) + " |" for line in lines]
