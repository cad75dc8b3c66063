"""The report on the calibration sample as a file, which the command shows again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qtool.data.column_fit import ColumnFit, Representativeness
from qtool.errors import reading


def representativeness_to_json(found: Representativeness, tensors: Sequence[Any] = ()) -> str:
    """Returns the report as text, one line per column.

    Args:
        found: the columns.
        tensors: dataclasses that say more about activations, one line each.
    """
    columns = [{**asdict(fit), "warnings": fit.warnings} for fit in found.columns]
    parts = [
        f'"rows": {json.dumps(found.rows)}',
        f'"columns": {_lines(columns)}',
        f'"tensors": {_lines([asdict(tensor) for tensor in tensors])}',
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def representativeness_from_json(text: str, where: str) -> Representativeness:
    """Returns the columns of the report that ``representativeness_to_json`` wrote.

    Raises:
        StaleArtifactError: the text is no such report.
    """
    with reading("a report on the calibration sample", where):
        raw = json.loads(text)
        columns = [{**fit, "examples": tuple(fit["examples"])} for fit in raw["columns"]]
        for fit in columns:
            del fit["warnings"]
        return Representativeness(raw["rows"], tuple(ColumnFit(**fit) for fit in columns))


def _lines(items: list[dict[str, Any]]) -> str:
    return "[" + ",".join(f"\n  {json.dumps(item, allow_nan=False)}" for item in items) + "\n]"
