"""Loading a saved encoder, and refusing one that was made for other inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.config.data import CategoricalInput, Data, NumericInput
from qtool.data.columns import category_kind, width
from qtool.data.encoder_file import encoder_from_json
from qtool.data.encoding import CategoricalEncoding, Encoder, Encoding, NumericEncoding
from qtool.data.files import reading
from qtool.errors import DataError, StaleArtifactError


def load_encoder(path: Path, data: Data, schema: pa.Schema) -> Encoder:
    """Returns the encoder saved at ``path``, checked against data section and column types.

    Raises:
        DataError: the file cannot be read.
        StaleArtifactError: it is no encoder, or its inputs are not those of ``data``.
    """
    try:
        with reading(str(path)):
            text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(str(path), "not UTF-8 text", "a saved encoder.json") from error
    encoder = encoder_from_json(text, str(path))
    check_encoder(encoder, data, schema, str(path))
    return encoder


def check_encoder(encoder: Encoder, data: Data, schema: pa.Schema, where: str) -> None:
    """Checks that an encoder is for the inputs of ``data`` and the column types of ``schema``.

    Raises:
        StaleArtifactError: it is for others; every difference is named.
    """
    differences = []
    if list(encoder.inputs) != list(data.inputs):
        differences.append(f"inputs {list(encoder.inputs)}, not {list(data.inputs)}")
    for name in [name for name in data.inputs if name in encoder.inputs]:
        part, section = encoder.inputs[name], data.inputs[name]
        differences += [f"{name}: {text}" for text in _differences(part, section, schema)]
    if differences:
        raise StaleArtifactError(
            where,
            "; ".join(differences),
            "an encoder learned with this data section",
            "Remove data.encoder to learn a new one, or restore the section it was learned with.",
        )


def _differences(
    part: Encoding, section: NumericInput | CategoricalInput, schema: pa.Schema
) -> list[str]:
    kind = "numeric" if isinstance(part, NumericEncoding) else "categorical"
    if kind != section.kind:
        return [f"{kind}, not {section.kind}"]
    if list(part.columns) != section.columns:
        return [f"columns {list(part.columns)}, not {section.columns}"]
    if isinstance(part, NumericEncoding) and isinstance(section, NumericInput):
        return _numeric_differences(part, section, schema)
    if isinstance(part, CategoricalEncoding) and isinstance(section, CategoricalInput):
        return _categorical_differences(part, section, schema)
    return []


def _numeric_differences(
    part: NumericEncoding, section: NumericInput, schema: pa.Schema
) -> list[str]:
    widths = tuple(width(schema, column) for column in section.columns)
    if widths != part.widths:
        return [f"numbers per column {part.widths}, not {widths}"]
    log = np.repeat([column in section.log for column in section.columns], widths)
    checks = {
        "log columns": np.array_equal(log, part.log),
        f"clip {part.clip}, not {section.clip}": part.clip == section.clip,
        f"missing: {section.missing}": (part.fill is None) == (section.missing == "error"),
    }
    return [text for text, same in checks.items() if not same]


def _categorical_differences(
    part: CategoricalEncoding, section: CategoricalInput, schema: pa.Schema
) -> list[str]:
    if (part.vocabularies is None) != (section.encode == "none"):
        return [f"encode: {section.encode}"]
    # Text looked up among integers would be unseen in every row, without a word.
    return [
        f"column {column} was {'text' if isinstance(words[0], str) else 'integers'}"
        for column, words in zip(part.columns, part.vocabularies or (), strict=False)
        if isinstance(words[0], str) != (category_kind(schema.field(column).type) == "str")
    ]
