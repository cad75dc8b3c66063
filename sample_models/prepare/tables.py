"""Tables as publishers give them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq


def only(files: Sequence[Path]) -> Path:
    """Returns the file where one is expected; ends the program where there are more."""
    if len(files) != 1:
        sys.exit(f"{len(files)} files; expected one")
    return files[0]


def read_table(file: Path, delimiter: str = ",") -> pa.Table:
    """Returns a Parquet or CSV file as a table."""
    if file.suffix == ".parquet":
        return pq.read_table(file)
    return pa_csv.read_csv(file, parse_options=pa_csv.ParseOptions(delimiter=delimiter))
