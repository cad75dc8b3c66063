"""Loading a saved encoder, and refusing one that was made for other inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from qtool.config.data import (
    CategoricalInput,
    ConstantInput,
    Data,
    Input,
    Nested,
    NumericInput,
    Scaled,
    SequenceInput,
    TensorInput,
)
from qtool.config.task import Task
from qtool.data.columns import category_kind, width
from qtool.data.constant import ConstantEncoding
from qtool.data.encoder_file import encoder_from_json
from qtool.data.encoding import Encoder, Encoding
from qtool.data.files import reading
from qtool.data.labels import has_text_classes, labels_of_section
from qtool.data.list_types import dtype_of, is_stacked, step_width, tensor_shape
from qtool.data.nested import Channels, SequenceEncoding, TensorEncoding
from qtool.data.tabular import CategoricalEncoding, NumericEncoding
from qtool.errors import DataError, StaleArtifactError

KINDS: dict[type[Encoding], str] = {
    NumericEncoding: "numeric",
    CategoricalEncoding: "categorical",
    SequenceEncoding: "sequence",
    TensorEncoding: "tensor",
    ConstantEncoding: "constant",
}


def load_encoder(path: Path, data: Data, task: Task, schema: pa.Schema) -> Encoder:
    """Returns the encoder saved at ``path``, checked against data section, task and column types.

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
    check_encoder(encoder, data, task, schema, str(path))
    return encoder


def check_encoder(encoder: Encoder, data: Data, task: Task, schema: pa.Schema, where: str) -> None:
    """Checks that an encoder is for inputs and label of ``data`` and the types of ``schema``.

    Raises:
        StaleArtifactError: it is for others; every difference is named.
    """
    differences = []
    if list(encoder.inputs) != list(data.inputs):
        differences.append(f"inputs {list(encoder.inputs)}, not {list(data.inputs)}")
    for name in [name for name in data.inputs if name in encoder.inputs]:
        part, section = encoder.inputs[name], data.inputs[name]
        differences += [f"{name}: {text}" for text in _differences(part, section, schema)]
    labels = labels_of_section(data, task)
    wanted = has_text_classes(labels, schema)
    if labels is not None and wanted != (encoder.classes is not None):
        differences.append(f"{'no' if wanted else 'text'} classes of the label")
    if differences:
        raise StaleArtifactError(
            where,
            "; ".join(differences),
            "an encoder learned with this data section",
            "Remove data.encoder to learn a new one, or restore the section it was learned with.",
        )


def _differences(part: Encoding, section: Input, schema: pa.Schema) -> list[str]:
    if KINDS[type(part)] != section.kind:
        return [f"{KINDS[type(part)]}, not {section.kind}"]
    if list(part.columns) != section.columns:
        return [f"columns {list(part.columns)}, not {section.columns}"]
    if isinstance(part, NumericEncoding) and isinstance(section, NumericInput):
        widths = tuple(width(schema, column) for column in section.columns)
        return _numeric_differences(part, section, widths)
    if isinstance(part, CategoricalEncoding) and isinstance(section, CategoricalInput):
        return _categorical_differences(part, section, schema)
    if isinstance(part, SequenceEncoding) and isinstance(section, SequenceInput):
        return _sequence_differences(part, section, schema)
    if isinstance(part, ConstantEncoding) and isinstance(section, ConstantInput):
        wanted = ConstantEncoding(section.dtype, section.sizes, section.value)
        return [] if part == wanted else [f"{part}, not {wanted}"]
    assert isinstance(part, TensorEncoding)
    assert isinstance(section, TensorInput)
    return _tensor_differences(part, section, schema)


def _numeric_differences(
    part: NumericEncoding, section: Scaled, widths: tuple[int, ...]
) -> list[str]:
    if widths != part.widths:
        return [f"numbers per column {part.widths}, not {widths}"]
    log = np.repeat([column in section.log for column in section.columns], widths)
    checks = {
        "log columns": np.array_equal(log, part.log),
        f"clip {part.clip}, not {section.clip}": part.clip == section.clip,
        f"missing: {section.missing}": (part.fill is None) == (section.missing == "error"),
    }
    return [text for text, same in checks.items() if not same]


def _channel_differences(
    part: Channels, section: Nested, widths: tuple[int, ...], schema: pa.Schema
) -> list[str]:
    dtype = dtype_of(section, schema)
    if dtype != part.dtype:
        return [f"dtype {part.dtype}, not {dtype}"]
    return [] if part.scaling is None else _numeric_differences(part.scaling, section, widths)


def _sequence_differences(
    part: SequenceEncoding, section: SequenceInput, schema: pa.Schema
) -> list[str]:
    widths = tuple(step_width(schema.field(column).type) or 1 for column in section.columns)
    checks = {
        f"length {part.length}, not {section.length}": section.length in (None, part.length),
        f"keep {part.keep}, not {section.keep}": part.keep == section.keep,
        f"pad {part.pad}, not {section.pad}": part.pad == section.pad,
        f"mask {part.mask}, not {section.mask}": part.mask == section.mask,
        f"mask_dtype {part.mask_dtype}": part.mask_dtype == section.mask_dtype,
        f"numbers per step {part.width}, not {sum(widths)}": part.width == sum(widths),
        "an axis for the columns": part.stack == is_stacked(section, schema),
    }
    differences = [text for text, same in checks.items() if not same]
    return differences or _channel_differences(part.channels, section, widths, schema)


def _tensor_differences(part: TensorEncoding, section: TensorInput, schema: pa.Schema) -> list[str]:
    shape = tensor_shape(section, schema.field(section.columns[0]).type)
    if shape != part.shape:
        return [f"shape {part.shape}, not {shape}"]
    return _channel_differences(part.channels, section, shape[-1:] or (1,), schema)


def _categorical_differences(
    part: CategoricalEncoding, section: CategoricalInput, schema: pa.Schema
) -> list[str]:
    if (part.vocabularies is None) != (section.encode == "none"):
        return [f"encode: {section.encode}"]
    if part.dtype != section.dtype:
        return [f"dtype {part.dtype}, not {section.dtype}"]
    # Text looked up among integers would be unseen in every row, without a word.
    return [
        f"column {column} was {'text' if isinstance(words[0], str) else 'integers'}"
        for column, words in zip(part.columns, part.vocabularies or (), strict=False)
        if isinstance(words[0], str) != (category_kind(schema.field(column).type) == "str")
    ]
