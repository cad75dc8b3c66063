"""NPZ archives as a source: an array (rows,) is a column, (rows, k, ...) one of fixed-size lists.

NumPy's archive has no streaming form, so its arrays are held in memory; large data belongs in
Parquet.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.data.files import check_one_schema, fingerprint_files, reading
from qtool.errors import DataError


@dataclass(frozen=True)
class NpzFiles:
    """The arrays of NPZ files, one file after the other."""

    name: str
    files: tuple[Path, ...]
    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """One column per array."""
        return self.table.schema

    def fingerprint(self) -> str:
        """Returns the sha256 of the files' contents."""
        return fingerprint_files(self.files)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows in file order."""
        yield from self.table.select(list(columns)).to_batches(max_chunksize=batch_rows)


def open_npz(name: str, files: tuple[Path, ...]) -> NpzFiles:
    """Returns the rows of NPZ files.

    Raises:
        DataError: a file is no intact NPZ, holds pickled objects or arrays of other shapes, the
            lengths or schemas differ, or there are no rows.
    """
    tables = [(file, _read(file)) for file in files]
    check_one_schema([(file, table.schema) for file, table in tables])
    names = tables[0][1].column_names
    table = pa.concat_tables([table.select(names) for _, table in tables])
    if table.num_rows == 0:
        raise DataError(name, "no rows", "at least one row")
    return NpzFiles(name, files, table)


def _read(file: Path) -> pa.Table:
    expected = "an intact NPZ archive without Python objects"
    # np.load tells the format from the content and would take a lone .npy array or a pickle.
    if not zipfile.is_zipfile(file):
        raise DataError(str(file), "not an NPZ archive", expected)
    try:
        with reading(str(file)), np.load(file, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    # ValueError: pickled objects and damaged headers. The archive's parts raise their own errors.
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(str(file), f"cannot be read: {error}", expected) from error
    lengths = {key: array.shape[:1] for key, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
        raise DataError(str(file), f"arrays {found or '(none)'}", "arrays with one number of rows")
    return pa.table({key: _column(file, key, array) for key, array in arrays.items()})


def _column(file: Path, key: str, array: np.ndarray) -> pa.Array:
    if array.ndim == 0 or 0 in array.shape[1:] or array.dtype.kind not in "biufU":
        raise DataError(
            str(file),
            f"array {key!r} of shape {array.shape} and type {array.dtype}",
            "numbers, booleans or text of shape (rows, ...)",
        )
    column = pa.array(np.ascontiguousarray(array).reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column
