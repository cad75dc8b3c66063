"""Reads a configuration file into plain values that know where they were written: the only yaml.

``extends: other.yaml`` starts from another file; mappings merge key by key, everything else
replaces, and ``null`` removes a key, which restores its default. Overrides (``a.b=value``) come
last. Every key keeps the file and line it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from qtool.config.section import LocatedStr
from qtool.errors import ConfigError, UsageError

Place = tuple[str | int, ...]
MOST_VALUES = 100_000


@dataclass(frozen=True)
class Document:
    """Merged values, and where each of them was written (``file:line`` or ``--set …``)."""

    values: dict[str, Any]
    origins: dict[Place, str] = field(default_factory=dict)

    def where(self, place: Place) -> str:
        """Returns where ``place``, or the nearest section around it, was written."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.origins:
                return self.origins[place[:end]]
        return "config"


def read_document(path: Path, overrides: Sequence[str] = ()) -> Document:
    """Returns the merged document.

    Raises:
        ConfigError: a file is missing, not YAML, not a mapping, has a key twice, or extends itself.
        UsageError: an override is not ``key=value``.
    """
    document = _read_chain(path, ())
    for override in overrides:
        document = _merge(document, _override(override))
    return Document(_without_nulls(document.values), document.origins)


def write_document(values: dict[str, Any]) -> str:
    """Returns ``values`` as YAML text, keys in their order."""
    return yaml.safe_dump(_without_types(values), sort_keys=False, allow_unicode=True)


def _without_types(value: Any) -> Any:
    """Turns located texts back into plain ones, which is all that the safe dumper takes."""
    if isinstance(value, dict):
        return {key: _without_types(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_types(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _read_chain(path: Path, seen: tuple[Path, ...]) -> Document:
    resolved = path.resolve()
    if resolved in seen:
        chain = " -> ".join(file.name for file in (*seen, resolved))
        raise ConfigError(str(path), f"extends itself ({chain})", "a chain of files that ends")
    document = _read_file(path)
    base = document.values.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, LocatedStr):
        where = document.where(("extends",))
        raise ConfigError(where, f"extends: {base!r}", "the path of one other config file")
    return _merge(_read_chain(base.directory / base, (*seen, resolved)), document)


def _read_file(path: Path) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            str(path), "no such file", "a YAML config", "qtool init writes one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read ({error})", "a UTF-8 YAML file") from error
    return _parse(text, str(path), path.parent)


def _parse(text: str, name: str, directory: Path) -> Document:
    try:
        return _parse_nested(text, name, directory)
    except RecursionError:
        found = "values nested without end, or in themselves"
        raise ConfigError(name, found, "a few levels") from None


def _parse_nested(text: str, name: str, directory: Path) -> Document:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}", f"not YAML ({error.problem})", "valid YAML") from error
    except yaml.YAMLError as error:
        raise ConfigError(name, f"not YAML ({error})", "valid YAML") from error
    origins: dict[Place, str] = {(): name}
    values = {} if root is None else _plain(root, (), name, directory, origins)
    if not isinstance(values, dict):
        raise ConfigError(
            name, f"a {type(values).__name__}", "a mapping of sections (name:, model:, …)"
        )
    return Document(values, origins)


def _plain(
    node: yaml.Node, place: Place, name: str, directory: Path, origins: dict[Place, str]
) -> Any:
    """Turns a YAML node into plain values and notes where each one starts."""
    if len(origins) > MOST_VALUES:  # aliases of aliases grow without end
        raise ConfigError(name, f"more than {MOST_VALUES} values", "a config")
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            at = f"{name}:{key_node.start_mark.line + 1}"
            if key in mapping:
                raise ConfigError(at, f"key '{key}' is given twice", "each key once")
            origins[(*place, key)] = at
            mapping[key] = _plain(value_node, (*place, key), name, directory, origins)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            origins[(*place, index)] = f"{name}:{item.start_mark.line + 1}"
            items.append(_plain(item, (*place, index), name, directory, origins))
        return items
    # SafeLoader's own rules decide between text, number, boolean and null.
    constructor = yaml.SafeLoader("")
    try:
        value = constructor.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        at = f"{name}:{node.start_mark.line + 1}"
        raise ConfigError(
            at, f"'{node.value}' cannot be read ({error})", "a plain value"
        ) from error
    return LocatedStr(value, directory) if isinstance(value, str) else value


def _override(text: str) -> Document:
    key, separator, value = text.partition("=")
    if not separator or not all(part for part in key.split(".")):
        raise UsageError(
            f"--set {text}", "not an override", "key=value, for example data.label=fraud"
        )
    origin = f"--set {text}"
    parsed = _parse(f"value: {value}" if value else "value:", origin, Path.cwd()).values["value"]
    values: Any = parsed
    for part in reversed(key.split(".")):
        values = {part: values}
    place = tuple(key.split("."))
    return Document(values, {place[:end]: origin for end in range(1, len(place) + 1)})


def _merge(base: Document, over: Document) -> Document:
    origins = dict(base.origins)
    values = _merge_values(base.values, over.values, (), origins, over.origins)
    return Document(values, origins)


def _merge_values(
    base: dict[str, Any],
    over: dict[str, Any],
    place: Place,
    origins: dict[Place, str],
    over_origins: dict[Place, str],
) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        here = (*place, key)
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge_values(base[key], value, here, origins, over_origins)
            continue
        for old in [at for at in origins if at[: len(here)] == here]:
            del origins[old]
        origins.update({at: o for at, o in over_origins.items() if at[: len(here)] == here})
        merged[key] = value
    return merged


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None
    }
