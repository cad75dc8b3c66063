"""Brings public data sets into the columns that the configs read, as one Parquet file.

    python -m sample_models.prepare SYSTEM FILE… OUT.parquet

``SYSTEM`` is a module beside this one, whose docstring names the files that it takes;
``sample_models/README.md`` names publishers.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path

import pyarrow.parquet as pq

from sample_models import prepare

NO_SYSTEMS = ("__main__", "tables")


def main() -> None:
    """Reads the command line and writes the file."""
    names = sorted({found.name for found in pkgutil.iter_modules(prepare.__path__)} - {*NO_SYSTEMS})
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", choices=names)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    system = importlib.import_module(f"{prepare.__name__}.{given.system}")
    pq.write_table(system.prepare(given.files), given.output)


if __name__ == "__main__":
    main()
