"""What every command starts from: fitted data, the FP32 model, its prepared form."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.commands.context import Context
from qtool.commands.inputs import check_inputs
from qtool.config.experiment import Experiment
from qtool.config.model import OnnxModel
from qtool.config.task import LABELLED
from qtool.data.batch import Batch
from qtool.data.dataset import Dataset
from qtool.data.encoder_file import encoder_from_json, encoder_to_json
from qtool.data.files import fingerprint_files
from qtool.data.fitted_file import fitted_from_json, split_to_json
from qtool.data.fitting import fit
from qtool.data.list_types import is_nested
from qtool.data.sampling import calibration_rows
from qtool.errors import ConfigError
from qtool.evaluation.equality import check_equal
from qtool.graph.model_file import (
    model_sha256,
    read_model,
    write_model,
)
from qtool.graph.prepare.pipeline import prepare
from qtool.progress import Task
from qtool.runs import content, digest, sha256_of, write_text
from qtool.user_code import source_files

MODEL = "model.onnx"
ENCODER = "encoder.json"
SPLIT = "split.json"
PARITY = "parity.json"
HISTORY = "history.json"
PARITY_ROWS = 10_000
"""Rows on which two forms of a model are compared code by code."""
PROOF_ROWS, NESTED_PROOF_ROWS = 1024, 128
"""Rows on which the prepared model is compared; few where one row costs as much as a table."""
PROOF_BATCH_ROWS = 64
"""Bounds the memory of large outputs."""


def versions(*packages: str) -> dict[str, str]:
    """Returns the installed versions without importing the packages."""
    return {package: importlib.metadata.version(package) for package in packages}


def source_sha256(reference: str, pythonpath: Path | None) -> str | None:
    """Returns the digest of the user's code behind ``module:function``; None when there is none."""
    files = source_files(reference, pythonpath)
    return digest({name: sha256_of(file) for name, file in files.items()}) if files else None


def digest_of(path: Path) -> str | None:
    """Returns the digest of a file, None when there is none."""
    return sha256_of(path) if path.is_file() else None


def require_label(experiment: Experiment, what: str) -> None:
    """Raises ConfigError when ``what`` needs a label for the task and the data names none."""
    if experiment.data.label is None and experiment.task in LABELLED:
        raise ConfigError(
            "data.label",
            f"no label, which {what} needs",
            "the column with the label of every row",
            "Name it, or use 'qtool calibrate' and 'qtool quantize', which work without.",
        )


def data_stage(context: Context) -> Path:
    """Fits encoder and split on the data: folder with encoder.json and split.json."""
    section = context.experiment.data
    encoder_sha256 = None if section.encoder is None else fingerprint_files([section.encoder])

    def make(folder: Path) -> None:
        fitted = fit(context.source, section, context.progress, context.experiment.task)
        write_text(folder / ENCODER, encoder_to_json(fitted.encoder))
        write_text(folder / SPLIT, split_to_json(fitted))

    settings = section.model_dump(mode="json", exclude={"source", "encoder", "batch_rows"})
    key = context.key(
        data=context.data_sha256, section=settings, encoder=encoder_sha256, **_task(context)
    )
    return context.run.stage("data", key, make)


def _task(context: Context) -> dict[str, str]:
    """Returns the task for a key; runs from before there was a choice had none in theirs."""
    task = context.experiment.task
    return {} if task == "binary_classification" else {"task": task}


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
            **_task(context),
        }
    )


def dataset(context: Context) -> Dataset:
    """Returns the encoded rows by split."""
    folder = data_stage(context)
    encoder = encoder_from_json((folder / ENCODER).read_text(encoding="utf-8"), ENCODER)
    fitted = fitted_from_json((folder / SPLIT).read_text(encoding="utf-8"), encoder, SPLIT)
    return Dataset(context.source, context.experiment.data, fitted, context.experiment.task)


def fp32_stage(context: Context) -> Path:
    """The FP32 model as given, or trained and exported: folder with model.onnx."""
    section = context.experiment.model
    if isinstance(section, OnnxModel):
        return _given_onnx(context, section)
    from qtool.commands.train_fp32 import train_fp32_stage

    return train_fp32_stage(context, section)


def prepared_stage(context: Context) -> Path:
    """The prepared FP32 model, proven equal on calibration rows: folder with model.onnx.

    With ``pruning`` it is the narrower one.
    """
    original = before_prepared(context)

    def make(folder: Path) -> None:
        write_model(folder / MODEL, prepared_model(context, original / MODEL))

    key = context.key(
        model=content(original),
        data=data_content(context),
        rows=_proof_rows(context),
        versions=versions("onnx", "onnx-ir", "onnxscript", "onnxruntime"),
    )
    return context.run.stage("prepared", key, make)


def prepared_model(context: Context, original: Path) -> ir.Model:
    """Returns the prepared form of a model, proven equal on calibration rows.

    Raises:
        ModelError: the model does not take the inputs of the data, or cannot be prepared.
    """
    model, data = read_model(original), dataset(context)
    check_inputs(model, context.experiment.data, data.fitted.encoder, original)
    prepared, rows = prepare(model), _proof_rows(context)
    sample = calibration_rows(data, rows, 0.1, context.experiment.seed, PROOF_BATCH_ROWS)
    with context.progress.task("prepare", rows) as task:
        check_equal(model, prepared, _inputs(sample, task))
    return prepared


def before_prepared(context: Context) -> Path:
    """The FP32 model, or with ``pruning`` the narrower one: folder with model.onnx."""
    if context.experiment.pruning is None:
        return fp32_stage(context)
    # Training loads torch, which no other way needs.
    from qtool.commands.prune import pruned_stage

    return pruned_stage(context)


def _proof_rows(context: Context) -> int:
    parts = context.experiment.data.inputs.values()
    return NESTED_PROOF_ROWS if any(is_nested(part) for part in parts) else PROOF_ROWS


def _inputs(batches: Iterator[Batch], task: Task) -> Iterator[dict[str, NDArray[Any]]]:
    for batch in batches:
        yield batch.inputs
        task.advance(len(batch))


def first_rows(context: Context, rows: int, batch_rows: int = 1000) -> Iterator[Batch]:
    """Yields the first ``rows`` rows of the evaluation split."""
    left = rows
    for batch in dataset(context).batches("evaluation", batch_rows):
        yield batch.take(np.arange(min(left, len(batch))))
        left -= len(batch)
        if left <= 0:
            return


def _given_onnx(context: Context, section: OnnxModel) -> Path:
    model = read_model(section.onnx)

    def make(folder: Path) -> None:
        write_model(folder / MODEL, model)

    key = context.key(model=model_sha256(section.onnx))
    return context.run.stage("fp32", key, make)
