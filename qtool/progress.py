"""How long work reports its progress: a protocol for the layers below, rich bars for people.

Work that takes long receives a ``Progress`` and never prints. Progress goes to stderr, so that
stdout carries only the result; when stderr is not a terminal, each task leaves one plain line when
it ends.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1, status: str = "") -> None:
        """Adds ``amount`` to what is done; ``status`` is shown beside the bar."""


class Progress(Protocol):
    """Where tasks are shown."""

    def task(self, description: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Opens a task of ``total`` units (None when unknown)."""


class _SilentTask:
    def advance(self, amount: float = 1, status: str = "") -> None: ...


class SilentProgress:
    """Shows nothing: for ``--quiet``, tests and library use."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """Opens a task that shows nothing."""
        yield _SilentTask()


class _LineTask:
    status = ""

    def advance(self, amount: float = 1, status: str = "") -> None:
        self.status = status or self.status


class LineProgress:
    """One plain line per finished task: for logs, where bars would be noise."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """Opens a task that prints one line to stderr when it ends."""
        started, task = time.monotonic(), _LineTask()
        yield task
        status = f"  {task.status}" if task.status else ""
        sys.stderr.write(f"{description}: {time.monotonic() - started:.1f} s{status}\n")


class BarProgress:
    """Rich bars with elapsed and remaining time, on stderr."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """Opens a task shown as a bar."""
        from rich import progress as rich_progress
        from rich.console import Console

        columns = (
            rich_progress.TextColumn("{task.description:<28}"),
            rich_progress.BarColumn(),
            rich_progress.TaskProgressColumn(),
            rich_progress.TimeElapsedColumn(),
            rich_progress.TextColumn("ETA"),
            rich_progress.TimeRemainingColumn(),
            rich_progress.TextColumn("{task.fields[status]}"),
        )
        with rich_progress.Progress(*columns, console=Console(stderr=True)) as bars:
            bar = bars.add_task(description, total=total, status="")

            class _BarTask:
                def advance(self, amount: float = 1, status: str = "") -> None:
                    fields = {"status": status} if status else {}
                    bars.update(bar, advance=amount, **fields)  # type: ignore[arg-type]

            yield _BarTask()
            if total is None:
                bars.update(bar, total=1, completed=1)


def console_progress() -> Progress:
    """Bars on a terminal, plain lines elsewhere."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
