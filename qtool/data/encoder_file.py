"""The encoder as JSON text: readable, exact (float32 survives) and checked when read."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np

from qtool.config.data import Dtype
from qtool.data.constant import ConstantEncoding
from qtool.data.encoding import Encoder, Encoding
from qtool.data.nested import Channels, SequenceEncoding, TensorEncoding
from qtool.data.tabular import CategoricalEncoding, NumericEncoding, Vocabulary
from qtool.data.values import Float32
from qtool.errors import StaleArtifactError

FORMAT = "qtool-encoder"
VERSION = 1
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
CODES: tuple[Literal["int64", "int32"], ...] = ("int64", "int32")
SEQUENCE = ("width", "length", "keep", "pad", "stack", "mask", "mask_dtype")

Option = TypeVar("Option", bound=str)


def encoder_to_json(encoder: Encoder) -> str:
    """Returns the text of ``encoder.json``; the same encoder always gives the same bytes."""
    inputs = {name: _plain(part) for name, part in encoder.inputs.items()}
    plain = {"format": FORMAT, "version": VERSION, "inputs": inputs}
    if encoder.classes is not None:
        plain["classes"] = encoder.classes
    return json.dumps(plain, indent=1) + "\n"


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
        classes = _classes(raw["classes"]) if "classes" in raw else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise StaleArtifactError(
            where,
            f"not an encoder ({reason})",
            f"{FORMAT} version {VERSION}",
            "Learn it again: remove data.encoder from the config.",
        ) from error
    return Encoder(inputs, classes)


def _plain(part: Encoding) -> dict[str, Any]:
    if isinstance(part, NumericEncoding):
        return {"kind": "numeric", **_plain_numeric(part)}
    if isinstance(part, CategoricalEncoding):
        plain = {"kind": "categorical", "columns": part.columns, "vocabularies": part.vocabularies}
        return plain if part.dtype == "int64" else {**plain, "dtype": part.dtype}
    if isinstance(part, ConstantEncoding):
        return {"kind": "constant", "dtype": part.dtype, "shape": part.shape, "value": part.value}
    scaling = part.channels.scaling
    channels = {
        "columns": part.columns,
        "dtype": part.channels.dtype,
        "scaling": None if scaling is None else _plain_numeric(scaling),
    }
    if isinstance(part, TensorEncoding):
        return {"kind": "tensor", **channels, "shape": part.shape}
    options = {name: getattr(part, name) for name in SEQUENCE}
    return {"kind": "sequence", **channels, **options}


def _plain_numeric(part: NumericEncoding) -> dict[str, Any]:
    return {
        "columns": part.columns,
        "widths": part.widths,
        "fill": None if part.fill is None else part.fill.tolist(),
        "log": part.log.tolist(),
        "offset": part.offset.tolist(),
        "multiplier": part.multiplier.tolist(),
        "clip": part.clip,
    }


def _part(raw: dict[str, Any]) -> Encoding:
    if raw["kind"] == "constant":
        return _constant(raw)
    columns = _tuple_of(str, raw["columns"])
    if raw["kind"] == "numeric":
        return _numeric(columns, raw)
    if raw["kind"] == "categorical":
        return _categorical(columns, raw)
    if raw["kind"] == "sequence":
        return _sequence(columns, raw)
    if raw["kind"] != "tensor":
        raise ValueError(f"kind {raw['kind']!r}")
    shape = _tuple_of(int, raw["shape"])
    if len(columns) != 1 or min(shape, default=1) < 1:
        raise ValueError(f"shape {shape} of columns {columns}")
    return TensorEncoding(columns, _channels(columns, (shape[-1:] or (1,))[0], raw), shape)


def _constant(raw: dict[str, Any]) -> ConstantEncoding:
    shape, value = _tuple_of(int, raw["shape"]), float(raw["value"])
    if min(shape, default=0) < 0 or not np.isfinite(value):
        raise ValueError(f"shape {shape}, value {value}")
    return ConstantEncoding(_one_of(DTYPES, raw["dtype"]), shape, value)


def _categorical(columns: tuple[str, ...], raw: dict[str, Any]) -> CategoricalEncoding:
    dtype = _one_of(CODES, raw.get("dtype", "int64"))
    if raw["vocabularies"] is None:
        return CategoricalEncoding(columns, None, dtype)
    vocabularies = tuple(_vocabulary(values) for values in raw["vocabularies"])
    if len(vocabularies) != len(columns):
        raise ValueError(f"{len(vocabularies)} vocabularies for {len(columns)} columns")
    return CategoricalEncoding(columns, vocabularies, dtype)


def _sequence(columns: tuple[str, ...], raw: dict[str, Any]) -> SequenceEncoding:
    (length, width), pad = _tuple_of(int, [raw["length"], raw["width"]]), float(raw["pad"])
    (stack,) = _tuple_of(bool, [raw["stack"]])
    mask = raw["mask"] if raw["mask"] is None else _tuple_of(str, [raw["mask"]])[0]
    if min(length, width) < 1 or (width > 1 and not stack) or not np.isfinite(pad):
        raise ValueError(f"length {length}, {width} numbers per step, pad {pad}")
    return SequenceEncoding(
        columns=columns,
        channels=_channels(columns, width, raw),
        width=width,
        length=length,
        keep=_one_of(("first", "last"), raw["keep"]),
        pad=pad,
        stack=stack,
        mask=mask,
        mask_dtype=_one_of(DTYPES, raw["mask_dtype"]),
    )


def _channels(columns: tuple[str, ...], width: int, raw: dict[str, Any]) -> Channels:
    dtype, scaling = _one_of(DTYPES, raw["dtype"]), raw["scaling"]
    if (scaling is None) == (dtype == "float32"):
        raise ValueError(f"scaling of {dtype}")
    if scaling is None:
        return Channels(dtype, None)
    numeric = _numeric(columns, scaling)
    if len(numeric.offset) != width:
        raise ValueError(f"scaling of {len(numeric.offset)} numbers, not {width}")
    return Channels(dtype, numeric)


def _one_of(options: tuple[Option, ...], value: Any) -> Option:
    if value not in options:
        raise ValueError(f"{value!r}, not one of {options}")
    return cast(Option, value)


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


def _classes(values: Any) -> tuple[str, ...]:
    words = _vocabulary(values)
    if not isinstance(words[0], str):
        raise ValueError("classes that are no text")
    return words


def _tuple_of(kind: type[Any], values: Any) -> tuple[Any, ...]:
    # type() and not isinstance: True is no integer here.
    if not isinstance(values, list) or any(type(value) is not kind for value in values):
        raise ValueError(f"expected a list of {kind.__name__}")
    return tuple(values)
