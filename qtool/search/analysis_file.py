"""An analysis as a file of a stage: JSON in which null stands for what is not known."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from pydantic import TypeAdapter

from qtool.errors import reading
from qtool.search.analysis import Analysis

_ADAPTER = TypeAdapter(Analysis)


def analysis_to_json(analysis: Analysis) -> str:
    """Returns the analysis as text; infinity does not occur in one."""
    return json.dumps(_plain(dataclasses.asdict(analysis)), indent=2, allow_nan=False) + "\n"


def analysis_from_json(text: str, where: str) -> Analysis:
    """Returns the analysis that ``analysis_to_json`` wrote.

    Raises:
        StaleArtifactError: the text is not an analysis of this version.
    """
    with reading("an analysis", where):
        return _ADAPTER.validate_python(_numbers(json.loads(text)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _numbers(value: Any) -> Any:
    """Returns what ``_plain`` was given, keys of objects as they are."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return math.nan if value is None else value
