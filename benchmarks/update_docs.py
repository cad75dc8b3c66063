"""Writes docs/benchmarks.md from the results in benchmarks/results.

``--check`` changes nothing and fails when the page is stale.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import le

from harness import BENCHMARKS, PROJECT, Row, read

from qtool.report.text import share

PAGE = PROJECT / "docs" / "benchmarks.md"
# Results file → script whose docstring explains it.
RESULTS = {
    "tabular": "tabular",
    "tabular_generated": "tabular",
    "blocks": "blocks",
    "peers": "peers",
    "outliers": "outliers",
    "rounding": "rounding",
    "calibration": "calibration",
    "qat": "qat",
    "parity": "parity",
    "intervals": "intervals",
    "latency_protocol": "latency_protocol",
    "startup": "startup",
}
# Results file → the metrics that stand in one table each; a last one has the others.
TABLES = {
    "qat": [r"fp32.*points|w8a8.*points", r"w.*points", r"w.*share", r".*share"],
    "rounding": [r"sqnr_db|flips|delta_points|tuning_s", r".*_of_rounding", r".*_of_all"],
    "peers": [r".*_best|search.*", r"speed", r".*_difference|changed|output_error|size"],
}
INTRODUCTION = """\
# Benchmarks

Generated from [benchmarks/results](../benchmarks/results) by `python benchmarks/update_docs.py`;
`make bench` measures again first (`make bench DATA=DIR` with the real data sets). Machines differ,
and shared ones are noisy: a speed-up is the median over interleaved rounds, with its 95 % interval
and the case's own median latency in brackets.
"""


@dataclass(frozen=True)
class Target:
    """What the project promises of every row that has ``metric`` and whose case matches.

    ``peer`` is given where one metric is measured against several.
    """

    text: str
    metric: str
    cases: str
    holds: Callable[[float], bool]
    peer: str = ""


BLOCK = r"(mlp|residual|encoder|tcn|deeplob|separable|lstm|gru|embedding|dlrm|two-tower|decoder)-.*"
# Block cases → the least speed-up over the best FP32, on a machine with AMX.
BLOCK_SPEEDUPS = {
    "mlp-512x3-b32": 7.5,
    "residual-mlp-128-512x3-b64": 5.0,
    "encoder-d384x6-s128-b1": 3.2,
    "encoder-d384x6-s128-b8": 3.8,
    "encoder-d768x2-s128-b8": 5.0,
    "tcn-c64-.*": 2.8,
    "tcn-c128-.*": 4.0,
    "deeplob-relu-b32": 1.75,
    "lstm-h256-.*": 2.0,
    "embedding-26x20k-b256": 4.5,
}
# A promise is about qtool; the peers have cases of their own, …-ort-static and …-ort-dynamic.
QTOOL = r".*(?<!ort)-(static|dynamic|qat)"
SEEDED = r".*-seed\d+"
OBSERVED = r".*-(mse|entropy|percentile)"
TARGETS = (
    Target("AUC within 0.001 of FP32", "auc_change", QTOOL, lambda value: abs(value) <= 0.001),
    Target("file at most 27 % of FP32", "size_ratio", QTOOL, lambda value: value <= 0.27),
    Target(
        "static 5 x FP32 at batch 32",
        "speedup",
        r".*(credit|fraud|ulb)-static-b32",
        lambda v: v >= 5,
    ),
    Target("99.9 % equal codes", "equal_codes_share", r".*", lambda value: value >= 0.999),
    *(
        Target(
            f"{cases.removesuffix('-.*')} {least:g} x FP32", "speedup", cases, partial(le, least)
        )
        for cases, least in BLOCK_SPEEDUPS.items()
    ),
    # Layers that stay in float run at the speed of FP32, and two runs of one model differ by 3 %.
    Target("no block slower than FP32 (0.97 x)", "speedup", BLOCK, partial(le, 0.97)),
    Target(
        "W8A8 QAT taught by FP32: FP32 - 0.1 points",
        "w8a8_kd_delta_points",
        SEEDED,
        lambda v: v >= -0.1,
    ),
    Target("on the labels", "w8a8_delta_points", SEEDED, lambda v: v >= -0.1),
    Target(
        "W4A8 QAT taught by FP32 recovers 80 %",
        "w4a8_kd_recovered_share",
        SEEDED,
        lambda v: v >= 0.8,
    ),
    *(
        Target(
            f"W4A8 {method} recovers 80 % of the output error of {peer}{beyond}",
            f"recovered_error_of_{of}",
            f".*-{method}",
            lambda v: v >= 0.8,
            peer,
        )
        for method in ("gptq", "adaround")
        for peer in ("nearest", "min-max")
        for of, beyond in (("rounding", " beyond W8A8"), ("all", ""))
    ),
    Target("99.99 % equal decisions", "decisions_equal_share", SEEDED, lambda v: v >= 0.9999),
    Target("QAT step 2.2 x FP32", "step_time_over_fp32", SEEDED, lambda v: v <= 2.2, "eager"),
    Target("1.6 x compiled", "step_time_over_fp32", SEEDED, lambda v: v <= 1.6, "compiled"),
    Target("imported 1.15 x native", "imported_step_over_native", SEEDED, lambda v: v <= 1.15),
    Target("calibration 1.3 x inference", "time_over_inference", OBSERVED, lambda v: v <= 1.3),
    Target(
        "auto as fast as the fastest peer that is as accurate (0.97 x)",
        "speed_against_best",
        r".*-auto-b\d+",
        partial(le, 0.97),
    ),
    Target(
        "auto not less accurate than the most accurate peer that is as fast",
        "gain_against_best",
        r".*-auto-b\d+",
        lambda value: value >= 0,
    ),
    Target(
        "small nets no slower than FP32 (0.97 x)", "speed", r".*-small-auto-b1", partial(le, 0.97)
    ),
    Target(
        "95 % intervals cover 93 to 97 %",
        "coverage",
        r"(?!few-|auc-published-).*",
        lambda value: 0.93 <= value <= 0.97,
    ),
    Target("search 20 x an evaluation", "search_over_evaluation", r".*", lambda v: v <= 20),
    Target("200 MB above it", "memory_over_inference_mb", OBSERVED, lambda value: value <= 200),
)
NOT_PROMISED = {
    "ort-static",
    "ort-static-best",
    "ort-dynamic",
    "ort-dynamic-best",
    "fp32-conv2d",
    "torchao PT2E",
}
"""Peers of rows that say nothing about a promise, which is against FP32 or the runtime."""


def page() -> str:
    """Returns the whole page."""
    # Whoever has no real data sets measures the generated ones, and the other way round.
    present = [name for name in RESULTS if (BENCHMARKS / "results" / f"{name}.json").is_file()]
    return "\n".join([INTRODUCTION, *(_section(name) for name in present)])


def _section(name: str) -> str:
    machine, *rows = read(BENCHMARKS / "results" / f"{name}.json")
    script = BENCHMARKS / f"{RESULTS[name]}.py"
    explained = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    parts = [f"## {name.replace('_', ', ').capitalize()}", explained]
    left = rows
    for pattern in TABLES.get(name, [r"(?!speedup).*"]):
        chosen = [row for row in left if re.fullmatch(pattern, row.metric)]
        left = [row for row in left if row not in chosen]
        parts.append(_table(chosen) if chosen else "")
    parts.append(_table(left) if left else "")
    parts += [_targets(rows), f"Measured on: {machine.notes}"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(rows: Sequence[Row]) -> str:
    """Returns one line per case and one column per metric and peer."""
    columns = dict.fromkeys((row.metric, row.peer) for row in rows)
    cells = {(row.case, row.metric, row.peer): _cell(row) for row in rows}
    lines = ["| case | " + " | ".join(_title(*column) for column in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for case in dict.fromkeys(row.case for row in rows):
        found = (cells.get((case, *column), "") for column in columns)
        lines.append(f"| {case} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def _title(metric: str, peer: str) -> str:
    return f"{metric}, against {peer}" if peer else metric


def _cell(row: Row) -> str:
    value = share(row.value) if row.unit == "share" else f"{row.value:.3g}"
    value = f"{row.value:.5f}" if row.unit == "AUC" else value
    return f"{value} ({row.notes})" if row.notes else value


def _targets(rows: Sequence[Row]) -> str:
    lines = []
    for target in TARGETS:
        about = [
            row
            for row in rows
            if row.metric == target.metric
            and row.peer not in NOT_PROMISED
            and target.peer in ("", row.peer)
            and re.fullmatch(target.cases, row.case)
        ]
        missed = dict.fromkeys(row.case for row in about if not target.holds(row.value))
        if about:
            verdict = f"missed by {', '.join(missed)}" if missed else f"all {len(about)} hold"
            lines.append(f"* {target.text}: {verdict}")
    return "\n".join(["Promised:", "", *lines]) if lines else ""


def main() -> int:
    """Writes or checks the page; returns the exit code."""
    text = page()
    if "--check" in sys.argv:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        if not current:
            sys.stderr.write(f"{PAGE.name} is stale; run python benchmarks/update_docs.py\n")
        return int(not current)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
