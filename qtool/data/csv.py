"""CSV files as a source, with column types that hold for every row.

Arrow infers types from the first block of a file and fails on a later row that does not fit. Here
one extra streaming pass reads every column as text and finds the first type of a ladder that all
values
have: integer, float, boolean, timestamp, text. So a text in row two million makes a text column,
    and the
check of the columns (``columns.py``) can name it.

In columns that are not text, empty fields and Arrow's null words (``NA``, ``null``, ``nan``, …) are
missing. In text columns every word is a value (``NA`` is Namibia) and only the empty text is
missing. A column without any value is a float column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from qtool.data.files import check_one_schema, fingerprint_files, reading
from qtool.errors import DataError

LADDER = (pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.string())
# One block of 1 MiB at a time, in order.
READ = pacsv.ReadOptions(use_threads=False)
# A quoted value may contain a line break.
PARSE = pacsv.ParseOptions(newlines_in_values=True)


@dataclass(frozen=True)
class CsvFiles:
    """CSV files, one after the other, streamed with bounded memory."""

    name: str
    files: tuple[Path, ...]
    schema: pa.Schema

    def fingerprint(self) -> str:
        """Returns the sha256 of the files' contents."""
        return fingerprint_files(self.files)

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yields the rows in file order.

        Raises:
            DataError: a file has changed since its types were found.
        """
        convert = pacsv.ConvertOptions(column_types=self.schema, include_columns=columns)
        for batch in _read(self.files, convert):
            for start in range(0, batch.num_rows, batch_rows):
                yield batch.slice(start, batch_rows)


def open_csv(name: str, files: tuple[Path, ...]) -> CsvFiles:
    """Returns the rows of CSV files (comma, one header line, UTF-8), after one pass for the types.

    Raises:
        DataError: a file is not intact CSV, the headers differ, or there are no rows.
    """
    as_text = check_one_schema([(file, _text_schema(file)) for file in files])
    return CsvFiles(name, files, _find_types(name, files, as_text))


def _text_schema(file: Path) -> pa.Schema:
    with reading(str(file)), pacsv.open_csv(file, READ, PARSE) as stream:
        names = stream.schema.names
    if len(names) == 1 and (found := [mark for mark in ";\t|" if mark in names[0]]):
        raise DataError(
            str(file),
            f"a header separated by {found[0]!r}",
            "commas",
            "Convert the file to Parquet or to CSV with commas.",
        )
    return pa.schema([(name, pa.string()) for name in names])


def _read(files: tuple[Path, ...], convert: pacsv.ConvertOptions) -> Iterator[pa.RecordBatch]:
    for file in files:
        with reading(str(file)), pacsv.open_csv(file, READ, PARSE, convert) as stream:
            yield from stream


def _find_types(name: str, files: tuple[Path, ...], as_text: pa.Schema) -> pa.Schema:
    convert = pacsv.ConvertOptions(
        column_types=as_text, include_columns=as_text.names, strings_can_be_null=True
    )
    steps = dict.fromkeys(as_text.names, 0)
    valued: set[str] = set()
    rows = 0
    for batch in _read(files, convert):
        rows += batch.num_rows
        for column in as_text.names:
            values = batch.column(column)
            if values.null_count < len(values):
                valued.add(column)
            while not _has_type(values, LADDER[steps[column]]):
                steps[column] += 1
    if rows == 0:
        raise DataError(name, "no rows", "at least one row below the header")
    return pa.schema(
        [(column, LADDER[s] if column in valued else pa.float64()) for column, s in steps.items()]
    )


def _has_type(values: pa.Array, kind: pa.DataType) -> bool:
    if kind == pa.string():
        return True
    try:
        pc.cast(pc.utf8_trim_whitespace(values), kind)
    except pa.ArrowInvalid:
        return False
    return True
