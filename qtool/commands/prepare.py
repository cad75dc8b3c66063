"""What every command starts from: fitted data, the FP32 model, its prepared form."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qtool.commands.context import Context
from qtool.config.model import OnnxModel
from qtool.data.batch import Batch
from qtool.data.dataset import Dataset
from qtool.data.encoder_file import encoder_from_json, encoder_to_json
from qtool.data.encoding import CategoricalEncoding, Encoder, NumericEncoding
from qtool.data.files import fingerprint_files
from qtool.data.fitted_file import fitted_from_json, split_to_json
from qtool.data.fitting import fit
from qtool.data.sampling import calibration_sample
from qtool.errors import ModelError
from qtool.graph.model_file import inputs_of, model_bytes, outputs_of, read_model
from qtool.graph.prepare.pipeline import prepare
from qtool.runs import content, digest, write_bytes, write_text
from qtool.runtime.sessions import Session, to_scores

if TYPE_CHECKING:
    import onnx_ir as ir

MODEL = "model.onnx"
ENCODER = "encoder.json"
SPLIT = "split.json"
PARITY = "parity.json"
PARITY_ROWS = 10_000
"""Rows on which two forms of a model are compared code by code."""
TOLERANCE = 1e-4
"""Largest relative change of the output by prepare: float32 rounding in another order."""


def versions(*packages: str) -> dict[str, str]:
    """Returns the installed versions without importing the packages."""
    return {package: importlib.metadata.version(package) for package in packages}


def data_stage(context: Context) -> Path:
    """Fits encoder and split on the data: folder with encoder.json and split.json."""
    section = context.experiment.data
    encoder_sha256 = None if section.encoder is None else fingerprint_files([section.encoder])

    def make(folder: Path) -> None:
        fitted = fit(context.source, section, context.progress)
        write_text(folder / ENCODER, encoder_to_json(fitted.encoder))
        write_text(folder / SPLIT, split_to_json(fitted))

    settings = section.model_dump(mode="json", exclude={"source", "encoder", "batch_rows"})
    key = context.key(data=context.data_sha256, section=settings, encoder=encoder_sha256)
    return context.run.stage("data", key, make)


def data_content(context: Context) -> str:
    """Returns the digest of what ``dataset`` yields: the rows, and what was fitted on them.

    The files of the data stage alone do not tell: a changed row outside the training split leaves
    encoder, cut points and counts as they were.
    """
    section = context.experiment.data
    return digest(
        {
            "rows": context.data_sha256,
            "label": section.label,
            "split": section.split.model_dump(mode="json"),
            "fitted": content(data_stage(context)),
        }
    )


def dataset(context: Context) -> Dataset:
    """Returns the encoded rows by split."""
    folder = data_stage(context)
    encoder = encoder_from_json((folder / ENCODER).read_text(encoding="utf-8"), ENCODER)
    fitted = fitted_from_json((folder / SPLIT).read_text(encoding="utf-8"), encoder, SPLIT)
    return Dataset(context.source, context.experiment.data, fitted)


def fp32_stage(context: Context) -> Path:
    """The FP32 model as given, or trained and exported: folder with model.onnx."""
    section = context.experiment.model
    if isinstance(section, OnnxModel):
        return _given_onnx(context, section)
    from qtool.commands.train_fp32 import train_fp32_stage

    return train_fp32_stage(context, section)


def prepared_stage(context: Context) -> Path:
    """The prepared FP32 model, proven equal on calibration rows: folder with model.onnx."""
    original = fp32_stage(context)
    rows = 1024

    def make(folder: Path) -> None:
        model = read_model(original / MODEL)
        check_inputs(model, dataset(context).fitted.encoder, original / MODEL)
        prepared = prepare(model)
        sample = sample_rows(context, rows)
        _check_equal(context, model, prepared, sample)
        write_bytes(folder / MODEL, model_bytes(prepared))

    key = context.key(
        model=content(original),
        data=data_content(context),
        output=context.experiment.model.output,
        rows=rows,
        versions=versions("onnx", "onnx-ir", "onnxscript", "onnxruntime"),
    )
    return context.run.stage("prepared", key, make)


def sample_rows(context: Context, samples: int, minimum_class_share: float = 0.1) -> Batch:
    """Returns the class-aware sample of the calibration split."""
    batches = dataset(context).batches("calibration")
    return calibration_sample(batches, samples, minimum_class_share, context.experiment.seed)


def first_rows(context: Context, rows: int, batch_rows: int = 1000) -> Iterator[Batch]:
    """Yields the first ``rows`` rows of the evaluation split."""
    left = rows
    for batch in dataset(context).batches("evaluation", batch_rows):
        yield batch.take(np.arange(min(left, len(batch))))
        left -= len(batch)
        if left <= 0:
            return


def describe_inputs(encoder: Encoder) -> dict[str, dict[str, Any]]:
    """Returns what a build function may want to know: shapes and cardinalities."""
    described: dict[str, dict[str, Any]] = {}
    for name, part in encoder.inputs.items():
        if isinstance(part, NumericEncoding):
            described[name] = {"shape": [len(part.offset)]}
        else:
            described[name] = {"shape": [len(part.columns)]}
            if part.vocabularies is not None:
                cardinalities = [len(vocabulary) + 1 for vocabulary in part.vocabularies]
                described[name]["cardinalities"] = cardinalities
    return described


def check_inputs(model: ir.Model, encoder: Encoder, where: Path) -> None:
    """Raises ModelError unless the model's inputs are those that ``data.inputs`` makes."""
    found = {info.name: info for info in inputs_of(model)}
    if set(found) != set(encoder.inputs):
        raise ModelError(
            f"{where}: inputs",
            f"{_listed(found)} in the model",
            f"the inputs of the config, {_listed(encoder.inputs)}",
            "Name data.inputs like the model's inputs.",
        )
    for name, part in encoder.inputs.items():
        info = found[name]
        dtype = "int64" if isinstance(part, CategoricalEncoding) else "float32"
        width = len(part.columns) if isinstance(part, CategoricalEncoding) else len(part.offset)
        if info.dtype != dtype:
            raise ModelError(
                f"{where}: input '{name}'",
                f"dtype {info.dtype}",
                f"{dtype}, as data.inputs.{name} makes it",
                "Set its kind to numeric (float32) or categorical (int64).",
            )
        if len(info.shape) != 2 or (isinstance(info.shape[1], int) and info.shape[1] != width):
            raise ModelError(
                f"{where}: input '{name}'",
                f"shape {info.shape}",
                f"(batch, {width}), as data.inputs.{name} makes it",
                "Give the columns that the model was trained on, in its order.",
            )
        if isinstance(info.shape[0], int):
            raise ModelError(
                f"{where}: input '{name}'",
                f"a fixed batch of {info.shape[0]}",
                "a symbolic batch dimension",
                "Export the model with a dynamic first dimension.",
            )


def _given_onnx(context: Context, section: OnnxModel) -> Path:
    data = model_bytes(read_model(section.onnx))  # with the weights that lie in files beside it

    def make(folder: Path) -> None:
        write_bytes(folder / MODEL, data)

    key = context.key(model=hashlib.sha256(data).hexdigest())
    return context.run.stage("fp32", key, make)


def _check_equal(context: Context, model: ir.Model, prepared: ir.Model, sample: Batch) -> None:
    kind = context.experiment.model.output
    name = outputs_of(model)[0].name
    raw = []
    for graph, where in ((model, "the FP32 model"), (prepared, "the prepared model")):
        outputs = Session(model_bytes(graph), where).run(sample.inputs)[name]
        if len(outputs) != len(sample):
            raise ModelError(
                where, f"{len(outputs)} outputs for {len(sample)} rows", "one output per row"
            )
        to_scores(outputs, kind, where)  # refuses what is no score
        raw.append(outputs.astype(np.float64))
    difference = float(np.abs(raw[0] - raw[1]).max() / max(1.0, np.abs(raw[0]).max()))
    if not difference <= TOLERANCE:
        raise ModelError(
            "prepare",
            f"the output changed by up to {difference:.3g} of its size on {len(sample)} rows",
            f"at most {TOLERANCE:g}",
            "The graph uses something that qtool's rewriting does not keep; please report it.",
        )


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
