"""Polish companies bankruptcy: one of the ARFF files of UCI, such as ``5year.arff``, or a table.

A table (Parquet or CSV) has the columns ``Attr1`` … ``Attr64`` and ``class``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.generators import company_accounts
from sample_models.prepare.tables import only, read_table


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the companies in the columns of ``company_accounts``.

    Source: UCI Machine Learning Repository, "Polish companies bankruptcy" (Zięba, Tomczak and
    Tomczak 2016).
    """
    file = only(files)
    if file.suffix == ".arff":
        ratios, labels = _arff(file)
    else:
        table = read_table(file)
        columns = [table[name].to_numpy() for name in company_accounts.RATIOS]
        ratios, labels = np.stack(columns, axis=1).astype(np.float64), table["class"].to_numpy()
    values = dict(zip(company_accounts.RATIOS, ratios.T, strict=True))
    return company_accounts.as_table(values, labels.astype(np.int8))


def _arff(file: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns ratios (companies, 64), NaN where the file has a question mark, and labels."""
    data = file.read_text(encoding="utf-8").lower().split("@data", 1)[1]
    rows = [line.replace("?", "nan").split(",") for line in data.split()]
    values = np.array(rows, np.float64)
    return values[:, :-1], values[:, -1]
