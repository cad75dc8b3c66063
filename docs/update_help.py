"""Writes the output of ``qtool … --help`` into the README; ``--check`` fails when it is not current.

A block starts with ``<!-- help: qtool run -->`` and is the fenced block after it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- help: qtool ?(?P<command>[\w-]*) -->\n```text\n)(?P<text>.*?)(```\n)", re.S)


def help_of(command: str) -> str:
    """Returns what the command prints for --help, at a fixed width."""
    arguments = [sys.executable, "-m", "qtool", *([command] if command else []), "--help"]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines()) + "\n"


def main() -> int:
    """Updates or checks the README; returns the exit code."""
    before = README.read_text(encoding="utf-8")
    after = BLOCK.sub(lambda m: m[1] + help_of(m["command"]) + m[4], before)
    if after == before:
        return 0
    if "--check" in sys.argv:
        sys.stderr.write("README.md: help blocks are stale; run python docs/update_help.py\n")
        return 1
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
