"""Every sample system from its data to a judged INT8 model, and docs/results.md from what came out.

    python benchmarks/systems.py [--data DIR] [--runs DIR] [--only WORD …]

Runs ``qtool sweep`` on the configs of ``SYSTEMS``, then their baselines. With ``--data`` those that
have a public file train and are judged on it, the others on their generators. What is finished is
not done again, so that the same command goes on after an interruption. ``--quick`` takes few rows
and writes no page.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import PROJECT, Row, arguments, report

from qtool.commands.compare import read_evaluation
from qtool.commands.doctor import diagnose
from qtool.commands.sweep import RECORD
from qtool.config.load import load
from qtool.report.markdown import table_lines
from qtool.report.sweep import Swept, main_change, methods, sweep_chapters, sweep_tables
from qtool.report.tables import Table
from qtool.runs import write_text

Ran = subprocess.CompletedProcess[str]
PAGE = PROJECT / "docs" / "results.md"
QUICK = ("data.source.rows=3000", "evaluation.latency={blocks: 5, block_ms: 0.2}")


@dataclass(frozen=True)
class System:
    """One row of the results.

    Attributes:
        config: its file in ``configs``, without the ending.
        recipe: module of ``sample_models.prepare`` for the public files; empty: none are needed,
            or there are none.
        files: public files, as globs below ``--data``.
        changes: sections of the config that are others with them.
    """

    config: str
    recipe: str = ""
    files: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)


NN5 = ("nn5_atm_withdrawals/*.parquet",)
RETAIL = ("online_retail_uci/*.parquet",)
TAT_QA = ("tatqa/tatqa_dataset_*.json",)
TEXTS = (
    "cfpb_complaints/complaints_narratives.parquet",
    *TAT_QA,
    "sroie_receipts_text/lines.parquet",
)
ULB = ("ulb_creditcard_sample/*.parquet",)
BY_ROW = {
    "data": {"split": {"by": "hash", "column": None}},
    "evaluation": {"gates": {"decision_flips": 0.01, "cost_increase": 0.05}},
}
"""Of a sample of payments not in the order of time, and too small for narrower gates."""
SYSTEMS = (
    System("fraud_wide"),
    System("fraud_student"),
    System("fraud_autoencoder", "", ULB, {**BY_ROW, "training": {"epochs": 30, "batch_size": 128}}),
    System("fraud_ulb", "", ULB, {**BY_ROW, "training": {"epochs": 10, "batch_size": 128}}),
    System("fraud_claims", "fraud_claims", ("vehicle_insurance_fraud/*.parquet",)),
    System("credit_static", files=("taiwan_credit_default/*.parquet",)),
    System("credit_transformer", files=("taiwan_credit_default/*.parquet",)),
    System(
        "credit_bankruptcy",
        "credit_bankruptcy",
        ("polish_bankruptcy/5year.parquet",),
        {"training": {"epochs": 20}},
    ),
    System(
        "order_book_auto",
        "order_book",
        ("bitstamp_btcusd_lob/depth.parquet",),
        {"evaluation": {"gates": {"net_pnl_change": 0.03}}},  # 884 windows decide no less
    ),
    System("cash_flow_static", "cash_flow", NN5),
    System("cash_flow_gru", "cash_flow", NN5),
    System("cash_flow_nbeats", "cash_flow", NN5),
    System(
        "cash_flow_m3",
        "cash_flow_m3",
        ("m3_competition/m3_series.parquet", "m3_competition/m3_values.parquet"),
        {"data": {"split": {"evaluation": 0.02}}},
    ),
    System("scenario_auto", "scenario", ("fred_md_qd/fred_md.parquet",)),
    System("segmentation_auto", "segmentation", RETAIL),
    System("personalisation_auto", "personalisation", RETAIL),
    System(
        "invoice_auto",
        "invoice",
        ("sroie_receipts_text/*.parquet",),
        {"evaluation": {"gates": {"fields_right_change": 0.02}}},  # 185 receipts decide no less
    ),
    System("reconciliation_auto", "reconciliation", RETAIL),
    System(
        "triage_auto",
        "triage",
        ("banking77/train.parquet", "banking77/test.parquet"),
        {"model": {"arguments": {"classes": 77}}},
    ),
    System("retrieval_auto", "retrieval", TAT_QA),
    System("language_model_weight_only", "language_model", TEXTS),
    System("language_model_auto", "language_model", TEXTS),
    System("regimes_auto", "regimes", ("sp500_5yr_daily/*.parquet",)),
    System("tree_search_auto", "tree_search", ("sp500_5yr_daily/*.parquet",)),
    System(
        "structural_auto",
        "structural",
        ("fred_md_qd/fred_qd.parquet",),
        {"training": {"epochs": 150}},
    ),
)


def main() -> None:
    """Runs everything that is asked for, and writes the page."""
    given = _arguments()
    chosen = [one for one in SYSTEMS if any(word in one.config for word in given.only or [""])]
    data = None if given.quick else given.data
    configs = [_config(system, data, given.runs) for system in chosen]
    runs = _swept(configs, QUICK if given.quick else (), given.runs)
    if not given.quick and not given.only:
        baselines = {run.name: _baselines(run, given.runs) for run in runs if run.evaluation}
        minutes = sum(run.seconds for run in runs) / 60
        _write_page(runs, baselines, real=given.data is not None, minutes=minutes)
    report([row for run in runs for row in _rows(run)], given.json)


def _arguments() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of the public data")
    parser.add_argument("--runs", type=Path, metavar="DIR", default=PROJECT / "runs" / "systems")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="parts of config names")
    return parser.parse_args()


def _config(system: System, data: Path | None, runs: Path) -> Path:
    """Returns the config of a system; with public files one that reads them."""
    config = PROJECT / "configs" / f"{system.config}.yaml"
    if data is None or not system.files:
        return config
    files = [file for pattern in system.files for file in sorted(data.glob(pattern))]
    if not files:
        raise FileNotFoundError(f"{data} has no {' or '.join(system.files)}")
    source = files[0]
    if system.recipe:
        source = runs / "public" / f"{system.recipe}.parquet"
        source.parent.mkdir(parents=True, exist_ok=True)
        if not source.is_file():
            partial = source.with_suffix(".partial.parquet")
            words = (system.recipe, *map(str, files), str(partial))
            _python("sample_models.prepare", *words, check=True)
            partial.replace(source)
    derived = runs / "configs" / config.name
    derived.parent.mkdir(parents=True, exist_ok=True)
    start = os.path.relpath(config, derived.parent)
    changes = dict(system.changes)
    read = {"source": str(source.resolve()), **changes.pop("data", {})}
    values = {"extends": start, "data": read, **changes}
    write_text(derived, f"{json.dumps(values)}\n")
    return derived


def _swept(configs: Sequence[Path], overrides: Sequence[str], runs: Path) -> list[Swept]:
    settings = (word for text in overrides for word in ("--set", text))
    _python("qtool", "sweep", *map(str, configs), "-o", str(runs), *settings)
    names = [load(config).experiment.name for config in configs]
    record = json.loads((runs / RECORD).read_text(encoding="utf-8"))["runs"]
    return [
        Swept(
            name,
            found["config"],
            None if found["result"] is None else read_evaluation(runs / name),
            found["seconds"],
            found["code"],
            found["error"],
        )
        for name, found in ((name, record[name]) for name in names)
    ]


def _python(module: str, *words: str, check: bool = False, capture: bool = False) -> Ran:
    command = (sys.executable, "-m", module, *words)
    return subprocess.run(command, check=check, cwd=PROJECT, text=True, capture_output=capture)


def _baselines(run: Swept, runs: Path) -> list[tuple[str, str]]:
    """Returns what each baseline of a run reaches: its name, and its metrics in words."""
    assert run.evaluation is not None
    file = runs / "baselines" / f"{run.name}.json"
    file.parent.mkdir(exist_ok=True)
    key = run.evaluation.provenance["data sha256"]
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["data"] == key:
            return [(name, text) for name, text in kept["found"]]
    done = _python("sample_models.baselines", run.config, capture=True)
    lines = (line.partition(": ") for line in done.stdout.splitlines())
    found = [(name, text) for name, _, text in lines]
    said = "" if found else done.stderr.strip().rpartition("\n")[2]
    write_text(file, json.dumps({"data": key, "found": found, "error": said}))
    return found


def _rows(run: Swept) -> Iterator[Row]:
    found = run.evaluation
    if found is None:
        yield Row(run.name, "failed", float(run.code), "exit code", notes=run.error)
        return
    change, gate = main_change(found)
    ends = f"{change.name} {change.fp32:.6g}; {change.low:.2g} to {change.high:.2g}"
    yield Row(run.name, "drop", change.drop, "", notes=ends)
    if gate is not None:
        yield Row(run.name, "drop_of_limit", change.drop / gate.limit, "share")
    for one in found.latency:
        notes = f"{one.speedup_low:.2f}-{one.speedup_high:.2f}"
        yield Row(f"{run.name}-b{one.batch_size}", "speedup", one.speedup, "x", "fp32", notes)
    yield Row(run.name, "size_ratio", found.size_ratio, "share", notes=methods(found))
    yield Row(run.name, "passed", float(found.passed), "")
    yield Row(run.name, "seconds", run.seconds, "s")


def _write_page(
    runs: Sequence[Swept],
    baselines: Mapping[str, Sequence[tuple[str, str]]],
    *,
    real: bool,
    minutes: float,
) -> None:
    told = "; ".join(f"{topic}: {found}" for topic, found in diagnose().items())
    public = "the public file that it has, else on " if real else ""
    command = f"python benchmarks/systems.py{' --data DIR' if real else ''}"
    lines = [
        "# Results",
        "",
        f"Every sample system, trained and judged on {public}its generator. Written by "
        f"`{command}`, never by hand; all runs together took {minutes:.0f} minutes.",
        "[sample_models/README.md](../sample_models/README.md) says what each system is, and which "
        "data it reads; [evaluation](evaluation.md) how the figures are made.",
        "",
        f"Measured on {datetime.date.today():%d %B %Y}. {told}.",
        "",
    ]
    for chapter in sweep_chapters(runs):
        for number, picture in enumerate(chapter.pictures):
            file = PAGE.with_name(f"results-{number + 1}.svg")
            write_text(file, f"{standalone(picture.svg)}\n")
            lines += [
                f"## {picture.title}",
                "",
                picture.text,
                "",
                f"![{picture.title}]({file.name})",
                "",
            ]
    for table in (*sweep_tables(runs), _baseline_table(runs, baselines)):
        lines += table_lines(table)
    write_text(PAGE, "\n".join(lines))


def standalone(svg: str) -> str:
    """Returns an element of a page as a file of its own, on white."""
    return svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff"', 1)


def _baseline_table(
    runs: Sequence[Swept], baselines: Mapping[str, Sequence[tuple[str, str]]]
) -> Table:
    rows = []
    for run in runs:
        if run.evaluation is not None and baselines.get(run.name):
            told = ", ".join(f"{one.title} {one.fp32:.4f}" for one in run.evaluation.metrics)
            rows += [(run.name, "this model, FP32", told)]
            rows += [(run.name, name, text) for name, text in baselines[run.name]]
    return Table("Beside other models", ("Run", "Model", "Metrics"), "lll", tuple(rows))


if __name__ == "__main__":
    main()
