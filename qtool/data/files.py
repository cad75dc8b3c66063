"""Files of a source: found in a fixed order, fingerprinted, their failures put into words."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from qtool.errors import DataError

READ_BYTES = 1 << 20


def find_files(path: Path) -> tuple[Path, ...]:
    """Returns the files that ``path`` names, sorted by path and checked to be readable.

    A directory stands for all files below it, except hidden directories and files whose name
    starts with ``.`` or ``_`` (the markers that Spark and others leave).

    Raises:
        DataError: nothing is there, or it cannot be read.
    """
    with reading(str(path)):
        if path.is_dir():
            files = _below(path)
            found, expected = "a directory without data files", "Parquet, CSV or NPZ files in it"
        elif path.exists():
            files, found, expected = [path], "", ""
        else:
            # A name with brackets or a star that exists is a file; only the others are globs.
            # Path.glob takes no absolute pattern.
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207
            files = [Path(name) for name in names]
            files = [file for file in files if file.is_file()]
            found = "matches no file" if glob.has_magic(str(path)) else "no such file"
            expected = "a file, a glob or a directory"
    if not files:
        raise DataError(str(path), found, expected, "Check data.source.")
    for file in files:
        with reading(str(file)), file.open("rb") as stream:
            stream.read(1)
    return tuple(sorted(files))


def _below(directory: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    files = []
    # os.walk and not rglob: rglob passes over directories it may not read.
    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(folder, name) for name in names if not name.startswith((".", "_"))]
    return files


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what the operating system and Arrow raise while reading ``where`` into a DataError."""
    try:
        yield
    except PermissionError as error:
        raise DataError(
            where, "no permission to read", "a readable file", "Check its owner and mode."
        ) from error
    # Arrow raises OSError for a corrupt Parquet file and ArrowInvalid (a ValueError) for a bad CSV.
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            where, f"cannot be read: {_first_line(error)}", "a complete, intact file"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def fingerprint_files(files: Sequence[Path]) -> str:
    """Returns the sha256 of the contents, one file after the other.

    For one file it equals what ``sha256sum`` prints.
    """
    digest = hashlib.sha256()
    for file in files:
        with reading(str(file)), file.open("rb") as stream:
            while block := stream.read(READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def check_one_schema(schemas: Sequence[tuple[Path, pa.Schema]]) -> pa.Schema:
    """Returns the schema that all files share.

    Raises:
        DataError: two files differ in columns or types, or one names a column twice.
    """
    first_file, first = schemas[0]
    twice = sorted({name for name in first.names if first.names.count(name) > 1})
    if twice:
        raise DataError(
            str(first_file), f"columns that occur twice: {', '.join(twice)}", "unique names"
        )
    for file, schema in schemas[1:]:
        different = set(zip(schema.names, schema.types, strict=True)) ^ set(
            zip(first.names, first.types, strict=True)
        )
        if different:
            names = ", ".join(sorted({name for name, _ in different}))
            raise DataError(
                str(file),
                f"other columns or types than {first_file}: {names}",
                "one schema in all files",
            )
    return first
