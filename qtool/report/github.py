"""The gates as GitHub workflow annotations, which GitHub shows on the pull request.

Source: docs.github.com, "Workflow commands for GitHub Actions", and the escapes of
``actions/toolkit`` ``packages/core/src/command.ts``.
"""

from __future__ import annotations

from pathlib import Path

from qtool.errors import OutputError
from qtool.evaluation.results import Evaluation
from qtool.report.markdown import to_markdown
from qtool.report.summary import facts, verdict
from qtool.report.tables import rows_needed
from qtool.report.text import printable

LEVELS = {"fail": ("error", "failed"), "undecided": ("warning", "is undecided")}
_DATA = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def to_annotations(evaluation: Evaluation) -> str:
    """Returns one line per gate that does not hold, and a notice with the verdict and its numbers.

    A failed gate is an ``error``, an undecided one a ``warning``.
    """
    lines = [
        _command(
            LEVELS[gate.verdict][0],
            f"{evaluation.name}: {gate.name} {LEVELS[gate.verdict][1]}",
            printable(f"{gate.text}{rows_needed(gate)}"),
        )
        for gate in evaluation.gates
        if gate.verdict != "pass"
    ]
    found = verdict(evaluation)
    numbers = "\n".join(f"{one.label}: {one.value} {one.detail}" for one in facts(evaluation))
    title = f"{evaluation.name}: {found.word}"
    return "\n".join((*lines, _command("notice", title, f"{found.text}\n{numbers}"))) + "\n"


def append_summary(path: Path, evaluation: Evaluation) -> None:
    """Appends the Markdown report to the summary of the job, ``GITHUB_STEP_SUMMARY``.

    Raises:
        OutputError: the operating system refuses to write.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{to_markdown(evaluation)}\n")
    except OSError as error:
        raise OutputError(
            "GITHUB_STEP_SUMMARY",
            f"{path}: {error.strerror}",
            "a writable file",
            "Unset it to go without a summary.",
        ) from error


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={title.translate(_PROPERTY)}::{message.translate(_DATA)}"
