"""What every benchmark shares: rows, arguments, the printed table, the results file, the machine.

The results file is a JSON list of rows ``{"case", "metric", "value", "unit", "peer", "notes"}``.
Its first row has the case ``machine``: the CPU, its features and the versions stand in its notes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qtool.commands.context import Options
from qtool.commands.doctor import diagnose
from qtool.progress import SilentProgress
from qtool.runs import write_text
from qtool.runtime.cpu import detect

BENCHMARKS = Path(__file__).resolve().parent
PROJECT = BENCHMARKS.parent
MACHINE = "machine"
WIDTH = 120
"""Columns of the table when it is printed to a file or a pipe."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        case: what was measured, as in ``credit-static-b32``.
        metric: ``speedup``, ``auc_change`` …
        value: the figure.
        unit: its unit; ``x`` is a factor, ``share`` lies between 0 and 1.
        peer: what the case is compared with, empty when the figure stands alone.
        notes: interval, counts and the like, in a few words.
    """

    case: str
    metric: str
    value: float
    unit: str
    peer: str = ""
    notes: str = ""


def arguments(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that every benchmark has.

    Args:
        description: the docstring of the script; its first line is shown by ``--help``.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, too")
    parser.add_argument("--quick", action="store_true", help="a smoke run; its figures mean little")
    return parser


def options(run_dir: Path, overrides: Sequence[str]) -> Options:
    """Returns the options of a silent qtool command."""
    return Options(
        overrides, run_dir, force=False, progress=SilentProgress(), tell=lambda line: None
    )


def report(rows: Sequence[Row], json_file: Path | None) -> None:
    """Prints the rows with the machine they were measured on, and writes them if asked to."""
    table = Table("Case", "Metric", "Value", "Unit", "Against", "Notes")
    for row in rows:
        table.add_row(row.case, row.metric, f"{row.value:.6g}", row.unit, row.peer, row.notes)
    machine = _machine()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    console.print(machine.notes)
    if json_file is not None:
        lines = ",\n".join(f"  {json.dumps(asdict(row))}" for row in (machine, *rows))
        write_text(json_file, f"[\n{lines}\n]\n")


def read(json_file: Path) -> list[Row]:
    """Returns the rows that ``report`` wrote, the machine first."""
    return [Row(**row) for row in json.loads(json_file.read_text(encoding="utf-8"))]


def _machine() -> Row:
    told = "; ".join(f"{topic}: {found}" for topic, found in diagnose().items())
    return Row(MACHINE, "cores", float(detect().cores), "cores", notes=told)
