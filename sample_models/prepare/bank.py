"""Bank Marketing: the UCI file (CSV with semicolons), or the same table as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from qtool.data.generators import bank_calls
from sample_models.prepare.tables import only, read_table

NEVER_CALLED = 999
"""``pdays`` of a client without an earlier call."""


def prepare(files: Sequence[Path]) -> pa.Table:
    """Returns the calls in the columns of ``bank_calls``.

    Source: UCI Machine Learning Repository, "Bank Marketing" (Moro, Cortez and Rita 2014).
    """
    file = only(files)
    table = read_table(file, delimiter=";")
    values: dict[str, Any] = {name: table[name].to_pylist() for name in table.column_names}
    days = np.array(values["pdays"])
    contacted = days != NEVER_CALLED
    values["contacted"], values["pdays"] = contacted.astype(np.int64), np.where(contacted, days, 0)
    values["age_group"] = bank_calls.age_groups(np.array(values["age"]))
    values["y"] = [int(answer == "yes") for answer in values["y"]]
    schema = bank_calls.SCHEMA
    return pa.table([pa.array(values[f.name], f.type) for f in schema], schema=schema)
