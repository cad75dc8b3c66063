"""Writes ``docs/benchmarks.md`` from the committed results in ``benchmarks/results``.

``python benchmarks/update_docs.py --run`` measures everything first.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "docs" / "benchmarks.md"
SCRIPTS = ("tabular", "parity", "startup")
INTRODUCTION = """\
# Benchmarks

Generated from `benchmarks/results` by `make bench`, which measures everything again. Times are
ratios of medians from one interleaved run on one core with one thread; a speed-up above 1 means
that qtool's INT8 model is faster than the peer. FP32 is the faster of the original and the prepared
model.
"""


def main() -> None:
    """Measures if asked to, then writes the page."""
    if "--run" in sys.argv:
        for name in SCRIPTS:
            command = [sys.executable, str(HERE / f"{name}.py")]
            subprocess.run([*command, "--json", str(HERE / "results" / f"{name}.json")], check=True)
    TARGET.write_text(INTRODUCTION + "".join(_section(name) for name in SCRIPTS), encoding="utf-8")


def _section(name: str) -> str:
    rows = json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))
    source = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    machine = ";".join(rows[0]["notes"].split(";")[-2:]).strip()
    lines = [f"\n## {name}\n\n{ast.get_docstring(source)}\n\n{machine}\n"]
    lines.append("| case | metric | value | unit | against | notes |\n|---|---|---:|---|---|---|")
    lines += [_line(row, machine) for row in rows]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any], machine: str) -> str:
    notes = row["notes"].removesuffix(machine).rstrip("; ")
    cells = (row["case"], row["metric"], f"{row['value']:.6g}", row["unit"], row["peer"], notes)
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
