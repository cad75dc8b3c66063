"""The encoder as JSON text: readable, exact (float32 survives) and checked when read."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np

from qtool.data.encoding import CategoricalEncoding, Encoder, Encoding, NumericEncoding, Vocabulary
from qtool.data.values import Float32
from qtool.errors import StaleArtifactError

FORMAT = "qtool-encoder"
VERSION = 1


def encoder_to_json(encoder: Encoder) -> str:
    """Returns the text of ``encoder.json``; the same encoder always gives the same bytes."""
    inputs = {name: _plain(part) for name, part in encoder.inputs.items()}
    return json.dumps({"format": FORMAT, "version": VERSION, "inputs": inputs}, indent=1) + "\n"


def encoder_from_json(text: str, where: str) -> Encoder:
    """Returns the encoder that ``encoder_to_json`` wrote.

    Args:
        text: the file's text; not trusted.
        where: the file's name, for messages.

    Raises:
        StaleArtifactError: the text is not an encoder of this version, or its parts contradict each
            other.
    """
    try:
        raw = json.loads(text)
        if (raw["format"], raw["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {raw['format']!r}, version {raw['version']!r}")
        inputs = {str(name): _part(part) for name, part in raw["inputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise StaleArtifactError(
            where,
            f"not an encoder ({reason})",
            f"{FORMAT} version {VERSION}",
            "Learn it again: remove data.encoder from the config.",
        ) from error
    return Encoder(inputs)


def _plain(part: Encoding) -> dict[str, Any]:
    if isinstance(part, CategoricalEncoding):
        return {"kind": "categorical", "columns": part.columns, "vocabularies": part.vocabularies}
    return {
        "kind": "numeric",
        "columns": part.columns,
        "widths": part.widths,
        "fill": None if part.fill is None else part.fill.tolist(),
        "log": part.log.tolist(),
        "offset": part.offset.tolist(),
        "multiplier": part.multiplier.tolist(),
        "clip": part.clip,
    }


def _part(raw: dict[str, Any]) -> Encoding:
    columns = _tuple_of(str, raw["columns"])
    if raw["kind"] == "numeric":
        return _numeric(columns, raw)
    if raw["kind"] != "categorical":
        raise ValueError(f"kind {raw['kind']!r}")
    if raw["vocabularies"] is None:
        return CategoricalEncoding(columns, None)
    vocabularies = tuple(_vocabulary(values) for values in raw["vocabularies"])
    if len(vocabularies) != len(columns):
        raise ValueError(f"{len(vocabularies)} vocabularies for {len(columns)} columns")
    return CategoricalEncoding(columns, vocabularies)


def _numeric(columns: tuple[str, ...], raw: dict[str, Any]) -> NumericEncoding:
    widths = _tuple_of(int, raw["widths"])
    if len(widths) != len(columns) or min(widths, default=0) < 1:
        raise ValueError(f"widths {widths} for {len(columns)} columns")
    size = sum(widths)
    log = _tuple_of(bool, raw["log"])
    clip = None if raw["clip"] is None else float(raw["clip"])
    if len(log) != size or (clip is not None and not 0 < clip < np.inf):
        raise ValueError(f"{len(log)} log flags for {size} values, clip {clip}")
    return NumericEncoding(
        columns=columns,
        widths=widths,
        fill=None if raw["fill"] is None else _floats(raw["fill"], size),
        log=np.array(log),
        offset=_floats(raw["offset"], size),
        multiplier=_floats(raw["multiplier"], size),
        clip=clip,
    )


def _floats(values: Any, size: int) -> Float32:
    array = np.array(values, np.float64)
    if array.shape != (size,) or not (np.abs(array) <= np.finfo(np.float32).max).all():
        raise ValueError(f"expected {size} finite numbers")
    return array.astype(np.float32)


def _vocabulary(values: Any) -> Vocabulary:
    if not values:
        raise ValueError("an empty vocabulary")
    texts = isinstance(values[0], str)
    words: Vocabulary = _tuple_of(str, values) if texts else _tuple_of(int, values)
    if not all(a < b for a, b in pairwise(words)):  # type: ignore[operator]
        raise ValueError("a vocabulary that is not sorted and unique")
    return words


def _tuple_of(kind: type[Any], values: Any) -> tuple[Any, ...]:
    # type() and not isinstance: True is no integer here.
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise ValueError(f"expected a list of {kind.__name__}")
    return tuple(values)
