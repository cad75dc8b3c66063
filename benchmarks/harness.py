"""What every benchmark shares: rows, arguments, the table, the machine.

A script prints a table and, with ``--json FILE``, writes its rows as a list of
``{"case", "metric", "value", "unit", "peer", "notes"}``. ``--quick`` is a smoke run of seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from qtool.commands.context import Options
from qtool.commands.prepare import versions
from qtool.progress import SilentProgress
from qtool.runtime.cpu import detect

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = Path(__file__).resolve().parent / "configs"


@dataclass(frozen=True)
class Row:
    """One figure: ``value`` of ``metric`` for ``case``, against ``peer`` where it is a ratio."""

    case: str
    metric: str
    value: float
    unit: str
    peer: str = ""
    notes: str = ""


def parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the arguments that every script takes; the first line of ``description`` is shown."""
    arguments = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    arguments.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    arguments.add_argument("--quick", action="store_true", help="smoke run: small and noisy")
    arguments.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        metavar="DIR",
        help="folder with the public data sets, each in a folder of its own",
    )
    return arguments


def machine() -> str:
    """Returns the CPU and the versions, in one line."""
    cpu = detect()
    installed = versions("qtool", "onnxruntime", "torch", "numpy")
    packages = ", ".join(f"{name} {version}" for name, version in installed.items())
    return f"{cpu.name} ({cpu.target}), one core, one thread; {packages}"


def options(run_dir: Path, overrides: Sequence[str]) -> Options:
    """Returns silent options for running qtool's stages in this process."""
    return Options(
        overrides, run_dir, force=False, progress=SilentProgress(), tell=lambda line: None
    )


def report(rows: Sequence[Row], target: Path | None) -> None:
    """Prints ``rows`` and the machine, and writes them to ``target`` if there is one."""
    table = Table("case", "metric", "value", "unit", "peer", "notes")
    for row in rows:
        table.add_row(row.case, row.metric, f"{row.value:.6g}", row.unit, row.peer, row.notes)
    console = Console(width=140)
    console.print(table)
    console.print(machine())
    if target is not None:
        stamped = [
            {**asdict(row), "notes": "; ".join(filter(None, (row.notes, machine())))}
            for row in rows
        ]
        target.write_text(json.dumps(stamped, indent=1) + "\n", encoding="utf-8")
