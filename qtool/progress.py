"""How long work reports its progress: a protocol for the layers below, rich bars for people.

Work that takes long receives a ``Progress`` and never prints. Progress goes to stderr, so that
stdout carries only the result; when stderr is not a terminal, each task leaves one plain line when
it ends, and a table one line per row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

SHOWN_ROWS = 12
"""Rows of a live table: more would scroll out of a terminal, where they cannot be updated."""
LINES_AROUND_ROWS = 7
"""Rules, a header of two lines and the bar of a live table, and the line of the cursor."""
KEPT = "kept"


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: float = 1, status: str = "") -> None:
        """Adds ``amount`` to what is done; ``status`` is shown beside the bar."""


class TableTask(Task, Protocol):
    """A running piece of work that tells its results row by row."""

    def row(self, cells: Sequence[str], *, kept: bool = False) -> None:
        """Adds a row of one cell per column; ``kept`` marks it, and unmarks the one before it."""


class Progress(Protocol):
    """Where tasks are shown."""

    def task(self, description: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Opens a task of ``total`` units (None when unknown)."""

    def table(
        self,
        description: str,
        columns: Sequence[str],
        total: float | None = None,
        done: int = 0,
    ) -> AbstractContextManager[TableTask]:
        """Opens a task of ``total`` units whose rows have these columns.

        An earlier run did ``done`` of them, which says nothing about the time that remains.
        """


class _SilentTask:
    def advance(self, amount: float = 1, status: str = "") -> None: ...

    def row(self, cells: Sequence[str], *, kept: bool = False) -> None: ...


class SilentProgress:
    """Shows nothing: for ``--quiet``, tests and library use."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """Opens a task that shows nothing."""
        yield _SilentTask()

    @contextmanager
    def table(
        self,
        description: str,
        columns: Sequence[str],
        total: float | None = None,
        done: int = 0,
    ) -> Iterator[TableTask]:
        """Opens a task that shows nothing."""
        yield _SilentTask()


class _LineTask:
    def __init__(self, description: str, columns: Sequence[str]) -> None:
        self.description, self.columns, self.status = description, columns, ""

    def advance(self, amount: float = 1, status: str = "") -> None:
        self.status = status or self.status

    def row(self, cells: Sequence[str], *, kept: bool = False) -> None:
        pairs = zip(self.columns, cells, strict=True)
        texts = [f"{column} {cell}" for column, cell in pairs if cell]
        sys.stderr.write(f"{self.description}: {', '.join([*texts, KEPT] if kept else texts)}\n")


class LineProgress:
    """One plain line per row and per finished task: for logs, where bars would be noise."""

    @contextmanager
    def table(
        self,
        description: str,
        columns: Sequence[str],
        total: float | None = None,
        done: int = 0,
    ) -> Iterator[TableTask]:
        """Opens a task that prints its rows as they come and one line to stderr when it ends."""
        started, task = time.monotonic(), _LineTask(description, columns)
        yield task
        status = f"  {task.status}" if task.status else ""
        sys.stderr.write(f"{description}: {time.monotonic() - started:.1f} s{status}\n")

    def task(self, description: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Opens a task that prints one line to stderr when it ends."""
        return self.table(description, (), total)


class _Bar:
    def __init__(
        self, bars: RichProgress, description: str, total: float | None, done: int = 0
    ) -> None:
        self.bars, self.total = bars, total
        self.bar = bars.add_task(description, total=total, completed=done, status="")

    def advance(self, amount: float = 1, status: str = "") -> None:
        fields = {"status": status} if status else {}
        self.bars.update(self.bar, advance=amount, **fields)  # type: ignore[arg-type]

    def end(self) -> None:
        """Fills a bar whose total was unknown."""
        if self.total is None:
            self.bars.update(self.bar, total=1, completed=1)


class _BarTable(_Bar):
    def __init__(
        self,
        bars: RichProgress,
        description: str,
        columns: Sequence[str],
        total: float | None,
        done: int,
    ) -> None:
        super().__init__(bars, description, total, done)
        self.columns = columns
        self.rows: list[Sequence[str]] = []
        self.kept: int | None = None

    def row(self, cells: Sequence[str], *, kept: bool = False) -> None:
        if kept:
            self.kept = len(self.rows)
        self.rows.append(cells)

    def renderable(self) -> RenderableType:
        """Returns the table of the rows that fit, above the bar."""
        from rich.console import Group

        return Group(self._table(), self.bars) if self.rows else self.bars

    def _table(self) -> RenderableType:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        # Text, not str: rich reads [brackets] in a str as markup.
        for column in (*self.columns, KEPT):
            table.add_column(Text(column), justify="right")
        for index in self._shown():
            kept = index == self.kept
            cells = (*self.rows[index], "*" if kept else "")
            table.add_row(*(Text(cell) for cell in cells), style="bold green" if kept else "")
        return table

    def _shown(self) -> list[int]:
        """Returns the last rows, and above them the kept one if it is older."""
        fitting = max(self.bars.console.height - LINES_AROUND_ROWS, 2)
        first = max(len(self.rows) - min(SHOWN_ROWS, fitting), 0)
        last = list(range(first, len(self.rows)))
        return last if self.kept is None or self.kept >= first else [self.kept, *last[1:]]


class BarProgress:
    """Rich bars with elapsed and remaining time, and live tables above them, on stderr."""

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Task]:
        """Opens a task shown as a bar."""
        with _bars(_console()) as bars:
            bar = _Bar(bars, description, total)
            yield bar
            bar.end()

    @contextmanager
    def table(
        self,
        description: str,
        columns: Sequence[str],
        total: float | None = None,
        done: int = 0,
    ) -> Iterator[TableTask]:
        """Opens a task shown as a table of its last rows and the kept one, above a bar."""
        from rich.live import Live

        console = _console()
        table = _BarTable(_bars(console), description, columns, total, done)
        with Live(get_renderable=table.renderable, console=console):
            yield table
            table.end()


def console_progress() -> Progress:
    """Bars on a terminal, plain lines elsewhere."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _bars(console: Console) -> RichProgress:
    from rich import progress

    name_width = min(28, console.width // 4)
    columns: tuple[ProgressColumn, ...] = (
        progress.TextColumn(f"{{task.description:<{name_width}}}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("ETA"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[status]}"),
    )
    return progress.Progress(*columns, console=console)
