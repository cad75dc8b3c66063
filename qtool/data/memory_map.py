"""Rows on disk: batches streamed into ``.npy`` files that are read back as memory maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch, labels_of
from qtool.errors import DataError, OutputError
from qtool.progress import Progress


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of a split: read-only memory-mapped arrays whose first axis is the rows."""

    inputs: dict[str, NDArray[Any]]
    labels: NDArray[np.int8]


def write_rows(
    batches: Iterator[Batch], rows: int, directory: Path, description: str, progress: Progress
) -> Rows:
    """Returns the batches' rows as memory maps of new files below ``directory``.

    The files are written from front to back and only then mapped: writing through a map kills the
    process when the disk is full, where a write raises an error.

    Args:
        batches: the rows, with labels.
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
    maps = {name: np.load(directory / name, mmap_mode="r") for name in files}
    labels = maps.pop("labels.npy")
    return Rows(dict(zip(batch.inputs, maps.values(), strict=True)), labels)


def _arrays(batch: Batch) -> dict[str, NDArray[Any]]:
    # Numbered, because an input name may hold characters that a file name may not.
    inputs = {f"input_{i}.npy": values for i, values in enumerate(batch.inputs.values())}
    return {"labels.npy": labels_of(batch)} | inputs


def _write_header(file: BinaryIO, values: NDArray[Any], rows: int) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(values.dtype),
        "fortran_order": False,
        "shape": (rows, *values.shape[1:]),
    }
    np.lib.format.write_array_header_1_0(file, header)
