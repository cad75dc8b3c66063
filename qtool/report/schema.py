"""The published JSON Schema of the documents that ``json.py`` writes, from the result dataclasses.

What the docstrings say of an attribute becomes its description.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

from qtool.evaluation import results
from qtool.history import EpochRecord, History
from qtool.report.json import DERIVED, Document, LatencyEntry, keys_of
from qtool.report.latency import LatencySummary

MEANINGS: dict[Document, str] = {
    "result": "What 'qtool evaluate --json' prints.",
    "accuracy": "evaluation.json: what does not depend on a clock.",
    "latency": "latency.json: what was timed.",
}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def result_schema() -> dict[str, Any]:
    """Returns the JSON Schema of ``evaluation.json``, ``latency.json`` and the whole result."""
    definitions = _definitions()
    properties = definitions.pop("Evaluation")["properties"]
    # The writer keys metrics by name and replaces timed calls by their percentiles.
    properties["metrics"] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/MetricChange"},
    }
    properties["latency"] = {"type": "array", "items": {"$ref": "#/$defs/LatencyEntry"}}
    for document in get_args(Document):
        parts = {key: properties[key] for key in keys_of(document)}
        definitions[document] = {
            "description": MEANINGS[document],
            **_closed({"document": {"const": document}, **parts}),
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "qtool result",
        "description": "A number is null where it was not measured or is not defined.",
        "oneOf": [{"$ref": f"#/$defs/{document}"} for document in get_args(Document)],
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def _definitions() -> dict[str, dict[str, Any]]:
    """Every dataclass by name, with all its keys required, since all are written."""
    own = [cls for _, cls in inspect.getmembers(results, dataclasses.is_dataclass)]
    found = {}
    for cls in (*own, EpochRecord, LatencyEntry, LatencySummary):
        assert isinstance(cls, type)
        meanings = _meanings(cls)
        hints = get_type_hints(cls)
        for name in DERIVED.get(cls, ()):
            hints[name] = get_type_hints(getattr(cls, name).fget)["return"]
            meanings[name] = str(getattr(cls, name).__doc__)
        if cls is History:
            hints["best_epoch"] = int  # ``History.to_json`` adds it
        parts = {}
        for name, hint in hints.items():
            parts[name] = _of_type(hint)
            if name in meanings:
                parts[name]["description"] = meanings[name]
        found[cls.__name__] = {"description": _first_line(cls), **_closed(parts)}
    return found


def _of_type(hint: Any) -> dict[str, Any]:
    described = TypeAdapter(hint).json_schema(ref_template="#/$defs/{model}")
    described.pop("$defs", None)  # each dataclass is described once, by its own turn
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    return dict(_nullable(described))


def _nullable(described: Any) -> Any:
    if isinstance(described, dict):
        if described.get("type") == "number":
            return {**described, "type": ["number", "null"]}
        return {key: _nullable(value) for key, value in described.items()}
    return [_nullable(value) for value in described] if isinstance(described, list) else described


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _meanings(cls: type) -> dict[str, str]:
    _, _, attributes = inspect.cleandoc(str(cls.__doc__)).partition("\nAttributes:\n")
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}


def _first_line(cls: type) -> str:
    return " ".join(inspect.cleandoc(str(cls.__doc__)).partition("\n\n")[0].split())
