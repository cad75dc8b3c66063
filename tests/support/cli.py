"""The command line as users meet it: in this process, or in one of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from qtool.cli import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def qtool(*arguments: object) -> Done:
    """Runs a command line through the real entry point, in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["qtool", *map(str, arguments)]
    code: int | str | None = 0
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Done(int(code or 0), out.getvalue(), err.getvalue())


def succeeded(*arguments: object) -> Done:
    """Runs a command line that must end with exit code 0."""
    done = qtool(*arguments)
    assert done.code == 0, f"exit code {done.code}\n{done.err}"
    return done


def started(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """Starts a command line in a process of its own, with the checkout on its path."""
    return subprocess.Popen(
        [sys.executable, "-m", "qtool", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background with Ctrl-C ignored, which is inherited.
        preexec_fn=_obey_interrupts,  # noqa: PLW1509 - no threads here
    )


def _obey_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
