"""Rows on disk: batches streamed into ``.npy`` files that are read back as memory maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.errors import DataError, OutputError
from qtool.progress import Progress

LABELS = "labels.npy"


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a split: read-only memory-mapped arrays whose first axis is the rows.

    ``labels`` are None where the batches have none.
    """

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[Any] | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def write_rows(
    batches: Iterator[Batch], rows: int, directory: Path, description: str, progress: Progress
) -> Rows:
    """Returns the batches' rows as memory maps of new files below ``directory``.

    The files are written from front to back and only then mapped: writing through a map kills the
    process when the disk is full, where a write raises an error.

    Args:
        batches: the rows, all of them with labels or all without.
        rows: how many there are, for the files' headers.
        directory: made when it does not exist.
        description: of the progress task.
        progress: where it is shown.

    Raises:
        OutputError: the operating system refused to write.
        DataError: there are not ``rows`` rows: the source has changed since it was counted.
    """
    files: dict[str, BinaryIO] = {}
    written = 0
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack, progress.task(description, rows) as task:
            for batch in batches:
                arrays = _arrays(batch)
                for name, values in arrays.items():
                    if name not in files:
                        files[name] = stack.enter_context((directory / name).open("wb"))
                        _write_header(files[name], values, rows)
                    files[name].write(np.ascontiguousarray(values).data)
                written += len(batch)
                task.advance(len(batch))
    except OSError as error:
        raise OutputError(
            str(directory),
            f"cannot write ({error.strerror or error})",
            action="Free space or choose another directory.",
        ) from error
    if written != rows:
        raise DataError(
            str(directory),
            f"{written} rows",
            f"the {rows} rows counted before",
            "Leave the data alone during a run.",
        )
    return open_rows(directory, list(batch.inputs), labels=batch.labels is not None)


def open_rows(directory: Path, inputs: Sequence[str], *, labels: bool) -> Rows:
    """Returns the rows that ``write_rows`` wrote below ``directory``.

    Args:
        directory: of the files.
        inputs: names of the inputs, in the order of the batches.
        labels: whether the batches had labels.
    """

    def opened(name: str) -> NDArray[Any]:
        array: NDArray[Any] = np.load(directory / name, mmap_mode="r")
        return array

    files = zip(inputs, map(_input_file, range(len(inputs))), strict=True)
    return Rows({name: opened(file) for name, file in files}, opened(LABELS) if labels else None)


def _input_file(index: int) -> str:
    # Numbered, because an input name may hold characters that a file name may not.
    return f"input_{index}.npy"


def _arrays(batch: Batch) -> dict[str, NDArray[Any]]:
    inputs = {_input_file(i): values for i, values in enumerate(batch.inputs.values())}
    return inputs if batch.labels is None else {LABELS: batch.labels} | inputs


def _write_header(file: BinaryIO, values: NDArray[Any], rows: int) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(values.dtype),
        "fortran_order": False,
        "shape": (rows, *values.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, header)
