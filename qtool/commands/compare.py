"""``qtool compare``: the evaluations of several runs on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtool.commands.evaluate import RESULT
from qtool.commands.quantize import INT8_MODEL
from qtool.errors import StaleArtifactError, UsageError
from qtool.evaluation.results import Evaluation
from qtool.graph.model_file import model_sha256
from qtool.report.comparison import Judged, to_comparison_html
from qtool.report.stored import from_stored
from qtool.runs import RECORD, output_of, write_text

EVALUATE = "evaluate"
INT8_STAGES = ("quantize", "train-qat")


def compare(directories: Sequence[Path], output: Path) -> tuple[Judged, ...]:
    """Returns the runs in the order given, and writes the page.

    Args:
        directories: run directories with a finished evaluation of the same task.
        output: the HTML file.

    Raises:
        UsageError: a directory is no run, is given twice, holds no evaluation, or one of another
            task; or the file would be one of a finished stage.
        StaleArtifactError: an evaluation was changed, or its INT8 model was made again since.
        OutputError: the operating system refuses to write.
    """
    _check_places(directories, output)
    evaluations = [read_evaluation(directory) for directory in directories]
    for directory, evaluation in zip(directories, evaluations, strict=True):
        if evaluation.task != evaluations[0].task:
            raise UsageError(
                str(directory),
                f"a run of {evaluation.task}",
                f"{evaluations[0].task}, as {directories[0]} is",
                "Compare runs of one task.",
            )
    names = _names(directories)
    runs = tuple(Judged(*pair) for pair in zip(names, evaluations, strict=True))
    write_text(output, to_comparison_html(runs))
    return runs


def _check_places(directories: Sequence[Path], output: Path) -> None:
    seen: dict[Path, Path] = {}
    for directory in directories:
        first = seen.setdefault(directory.resolve(), directory)
        if first is not directory:
            found = f"the run {first} again"
            raise UsageError(str(directory), found, "different runs", "Leave one out.")
    if (output.parent / RECORD).is_file():
        raise UsageError(
            str(output),
            "a place among the files of a finished stage, which are never changed",
            "another folder",
            "Choose one with --output.",
        )


def read_evaluation(directory: Path) -> Evaluation:
    """Returns the evaluation of a run, when it is as it was written and of the model that is there.

    Raises:
        UsageError: the directory is no run, or holds no evaluation.
        StaleArtifactError: a file was changed, or the INT8 model was made again since; or another
            qtool replaces a stage just now.
    """
    try:
        return _read_evaluation(directory)
    except FileNotFoundError as error:
        # Reading takes no lock, so that runs can be compared where nothing may be written.
        raise StaleArtifactError(
            str(directory),
            f"{error.filename} was replaced while it was read",
            "a run that no other qtool works in",
            "Try again when that has ended.",
        ) from error


def _read_evaluation(directory: Path) -> Evaluation:
    folder = directory / EVALUATE
    if not (folder / RECORD).is_file():
        is_run = any(directory.glob(f"*/{RECORD}"))
        raise UsageError(
            str(directory),
            "a run without an evaluation" if is_run else "no run directory",
            "a directory such as runs/NAME with a finished evaluation",
            "Run 'qtool evaluate' first.",
        )
    result = output_of(folder, RESULT)
    evaluation = from_stored(result.read_bytes(), str(result))
    _check_model(directory, evaluation)
    return evaluation


def _check_model(directory: Path, evaluation: Evaluation) -> None:
    """A run may hold both a quantized and a trained model; the evaluation is of one of them."""
    folders = [directory / stage for stage in INT8_STAGES]
    found = [
        model_sha256(output_of(folder, INT8_MODEL))
        for folder in folders
        if (folder / RECORD).is_file()
    ]
    if found and evaluation.provenance["INT8 model sha256"] not in found:
        raise StaleArtifactError(
            str(directory),
            "the INT8 model was made again after this evaluation",
            "an evaluation of the model that is there",
            "Run 'qtool evaluate' again.",
        )


def _names(directories: Sequence[Path]) -> list[str]:
    """Folder names where they differ, else the paths as given."""
    names = [directory.resolve().name for directory in directories]
    return names if len(set(names)) == len(names) else [str(directory) for directory in directories]
