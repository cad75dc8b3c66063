from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qtool.progress import BarProgress, LineProgress, SilentProgress, TableTask, console_progress

COLUMNS = ("epoch", "train loss", "validation loss", "auc")
CODES = r"\x1b\[[\d;?]*[A-Za-z]"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def text(self) -> str:
        return re.sub(CODES, "", self.getvalue())

    def screen(self) -> str:
        """What stands below the last line that was erased."""
        return re.sub(CODES, "", self.getvalue().rpartition("\x1b[2K")[2])

    def last_frame(self) -> list[str]:
        return [line.rstrip() for line in self.screen().split("\n") if line.strip()]


MakeTerminal = Callable[..., Terminal]


@pytest.fixture
def make_terminal(monkeypatch: pytest.MonkeyPatch) -> MakeTerminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def make(width: int = 100, height: int = 40) -> Terminal:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("LINES", str(height))
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return make


def train(table: TableTask, epochs: int, kept: tuple[int, ...]) -> None:
    for epoch in range(epochs + 1):
        table.row((str(epoch), "0.5", "0.6", "0.9"), kept=epoch in kept)
        table.advance(1, f"epoch {epoch}")


def epochs_shown(terminal: Terminal) -> list[str]:
    """First and last cell of every row of the last frame."""
    rows = [line.split() for line in terminal.last_frame()]
    return [row[0] + ("*" if row[-1] == "*" else "") for row in rows if row[0].isdigit()]


def test_a_log_has_one_line_per_row_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress().table("train QAT", COLUMNS, 2) as table:
        table.row(("0", "", "0.7", "0.91"), kept=True)
        table.row(("1", "0.5", "0.8", "0.92"))
        table.advance(2, "epoch 1")
    first, second, last = capsys.readouterr().err.splitlines()
    assert first == "train QAT: epoch 0, validation loss 0.7, auc 0.91, kept"
    assert second == "train QAT: epoch 1, train loss 0.5, validation loss 0.8, auc 0.92"
    assert re.fullmatch(r"train QAT: \d+\.\d s  epoch 1", last)


def test_a_log_has_one_line_per_task(capsys: pytest.CaptureFixture[str]) -> None:
    with LineProgress().task("calibrate") as task:
        task.advance(3, "16 batches")
        task.advance()
    assert re.fullmatch(r"calibrate: \d+\.\d s  16 batches\n", capsys.readouterr().err)


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentProgress().table("train", COLUMNS) as table, SilentProgress().task("other"):
        train(table, 3, kept=(0,))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_terminal_gets_bars_and_a_file_gets_lines(make_terminal: MakeTerminal) -> None:
    make_terminal()
    assert isinstance(console_progress(), BarProgress)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", io.StringIO())
        assert isinstance(console_progress(), LineProgress)


def test_only_the_last_kept_row_is_marked(make_terminal: MakeTerminal) -> None:
    terminal = make_terminal()
    with console_progress().table("train QAT", COLUMNS, 4) as table:
        train(table, 3, kept=(0, 2))
    assert epochs_shown(terminal) == ["0", "1", "2*", "3"]
    assert terminal.last_frame()[0].split() == [*" ".join(COLUMNS).split(), "kept"]
    assert "100%" in terminal.last_frame()[-1]
    assert terminal.last_frame()[-1].endswith("epoch 3")


@pytest.mark.parametrize(
    ("kept", "shown"),
    [(3, ["3*", *map(str, range(20, 31))]), (25, [f"{n}{'*' * (n == 25)}" for n in range(19, 31)])],
)
def test_a_long_run_shows_the_last_rows_and_the_kept_one(
    make_terminal: MakeTerminal, kept: int, shown: list[str]
) -> None:
    terminal = make_terminal()
    with console_progress().table("train QAT", COLUMNS, 31) as table:
        train(table, 30, kept=(kept,))
    assert epochs_shown(terminal) == shown


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(10, 130), height=st.integers(9, 40), epochs=st.integers(0, 30))
def test_a_live_table_fits_the_terminal(
    make_terminal: MakeTerminal, width: int, height: int, epochs: int
) -> None:
    terminal = make_terminal(width, height)
    with console_progress().table("train QAT", COLUMNS, epochs + 1) as table:
        train(table, epochs, kept=(0,))
    frame = terminal.last_frame()
    assert max(len(line) for line in frame) <= width
    if width >= 60:  # below, cells are cut
        assert terminal.screen().count("\n") < height
        shown = epochs_shown(terminal)
        assert shown[0] == "0*"
        assert shown[1:] == [str(epoch) for epoch in range(epochs + 2 - len(shown), epochs + 1)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_table_leaves_the_terminal_clean(
    make_terminal: MakeTerminal, error: type[BaseException]
) -> None:
    terminal = make_terminal()
    before = sys.stdout

    def fail() -> None:
        with console_progress().table("train QAT", COLUMNS, 10) as table:
            train(table, 2, kept=(1,))
            raise error

    with pytest.raises(error):
        fail()
    assert epochs_shown(terminal) == ["0", "1*", "2"]
    assert terminal.getvalue().count(HIDE) == terminal.getvalue().count(SHOW) == 1
    assert terminal.getvalue().endswith("\n" + SHOW)
    assert (sys.stdout, sys.stderr) == (before, terminal)


def test_what_an_earlier_run_did_promises_no_speed(make_terminal: MakeTerminal) -> None:
    terminal = make_terminal()
    with console_progress().table("train QAT", COLUMNS, 10, done=5) as table:
        table.advance(1)
    assert "60%" in terminal.last_frame()[-1]
    assert "ETA -:--:--" in terminal.last_frame()[-1]


def test_cells_are_shown_as_they_are(make_terminal: MakeTerminal) -> None:
    terminal = make_terminal()
    with console_progress().table("train [red]", ("[bold]", "x")) as table:
        table.row(("[red]1[/red]", "2"))
    assert "[red]1[/red]" in terminal.text()
    assert "[bold]" in terminal.text()


def test_a_bar_of_unknown_length_is_full_at_the_end(make_terminal: MakeTerminal) -> None:
    terminal = make_terminal()
    with console_progress().task("parity") as task:
        task.advance(1, "99 % equal codes")
    assert "100%" in terminal.last_frame()[-1]
    assert terminal.last_frame()[-1].endswith("99 % equal codes")
