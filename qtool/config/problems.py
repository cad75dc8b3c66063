"""Turns pydantic's complaints into qtool's: where, found, expected, did you mean."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import ValidationError

from qtool.config.document import Document, Place
from qtool.errors import ConfigError

Schema = dict[str, Any]


def problems(error: ValidationError, document: Document, schema: Schema) -> list[ConfigError]:
    """Returns one ConfigError per complaint.

    Args:
        error: what pydantic found.
        document: the values it read, with their origins.
        schema: JSON schema of the experiment, to suggest keys from.
    """
    found = [_problem(detail, document, schema) for detail in error.errors(include_url=False)]
    return list({str(problem): problem for problem in found}.values())


def _problem(detail: Any, document: Document, schema: Schema) -> ConfigError:
    kind, context = detail["type"], detail.get("ctx", {})
    place = _place(detail["loc"], document.values, keep_last=kind in ("missing", "extra_forbidden"))
    discriminator = str(context.get("discriminator", "")).strip("'")
    if kind == "union_tag_invalid" and discriminator in detail["input"]:
        place = (*place, discriminator)
    where = f"{document.where(place)}: {_dotted(place)}" if place else document.where(place)
    if kind == "extra_forbidden":
        return _unknown_key(where, place, schema)
    if kind == "missing":
        return ConfigError(where, "missing", "this key")
    if kind in ("literal_error", "union_tag_invalid"):
        options = context.get("expected") or context.get("expected_tags")
        value = context.get("tag", detail["input"])
        choices = [option.strip("' ") for option in str(options).replace(" or ", ", ").split(", ")]
        return ConfigError(
            where, f"{value!r}", _one_of(choices), _did_you_mean(str(value), choices)
        )
    if kind == "union_tag_not_found":
        expected = f"the key '{discriminator}', which says what the section is"
        return ConfigError(where, f"no '{discriminator}'", expected)
    message = str(detail["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return ConfigError(where, message)
    if kind == "model_kind":
        return ConfigError(
            where, f"keys {sorted(detail['input'])}", message.removeprefix("expected ")
        )
    expected = message.removeprefix("Input should be ")
    return ConfigError(where, f"{detail['input']!r}", expected[0].lower() + expected[1:])


def _unknown_key(where: str, place: Place, schema: Schema) -> ConfigError:
    key = str(place[-1])
    variants = _variants(schema, place[:-1], schema)
    owners = [_label(variant) for variant in variants if key in variant.get("properties", {})]
    if owners:
        return ConfigError(
            where,
            f"'{key}' does not apply here",
            f"it only with {' or '.join(owners)}",
            "Remove it or change that.",
        )
    known = sorted({name for variant in variants for name in variant.get("properties", {})})
    suggestion = _did_you_mean(key, known)
    return ConfigError(where, f"unknown key '{key}'", f"one of {', '.join(known)}", suggestion)


def _place(loc: tuple[str | int, ...], values: Any, *, keep_last: bool) -> Place:
    """Drops the tags of unions, which pydantic adds to a location."""
    place: list[str | int] = []
    for index, part in enumerate(loc):
        inside = isinstance(values, dict) and part in values
        inside = inside or (
            isinstance(values, list) and isinstance(part, int) and part < len(values)
        )
        if inside:
            place.append(part)
            values = values[part]
        elif keep_last and index == len(loc) - 1:
            place.append(part)
    return tuple(place)


def _variants(schema: Schema, place: Place, root: Schema) -> list[Schema]:
    """Returns every object schema that may stand at ``place``."""
    if "$ref" in schema:
        return _variants(root["$defs"][schema["$ref"].rpartition("/")[2]], place, root)
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return [found for option in schema[union] for found in _variants(option, place, root)]
    if not place:
        return [schema] if schema.get("type") == "object" else []
    key, rest = place[0], place[1:]
    if isinstance(key, int):
        return _variants(schema.get("items", {}), rest, root)
    following = schema.get("properties", {}).get(key)
    if following is None and isinstance(schema.get("additionalProperties"), dict):
        following = schema["additionalProperties"]
    return _variants(following, rest, root) if following else []


def _label(variant: Schema) -> str:
    """Names a variant by its fixed value (method: static) or else by its required keys."""
    for key, value in variant.get("properties", {}).items():
        if "const" in value:
            return f"{key}: {value['const']}"
        if "enum" in value and key in ("at", "method", "kind", "by"):
            return f"{key}: {' or '.join(value['enum'])}"
    return " and ".join(f"'{key}'" for key in variant.get("required", []))


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


def _one_of(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"


def _did_you_mean(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f"Did you mean '{close[0]}'?" if close else ""
