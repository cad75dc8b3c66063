"""The tunings of a config at work: the rewritten graph, the tuned numbers, and what they did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from qtool.calibration.sample import masks_of
from qtool.commands.context import Context
from qtool.commands.prepare import (
    MODEL,
    PROOF_BATCH_ROWS,
    data_content,
    dataset,
    prepared_stage,
    versions,
)
from qtool.config.tuning import NumberTuning, Rewrite
from qtool.data.sampling import calibration_rows
from qtool.evaluation.equality import check_equal
from qtool.evaluation.results import Tuned
from qtool.graph.model_file import read_model, write_model
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan
from qtool.runs import content, write_text
from qtool.tuning.apply import rewritten, tuned
from qtool.tuning.tuned import Inputs, Rows

TUNING = "tuning.json"
CLASS_SHARE = 0.1
"""Smallest share of each class among the rows that tunings read."""
PROVEN_ROWS = 256


def float_stage(context: Context) -> Path:
    """The FP32 model that is quantized: the prepared one, as the config's rewrites leave it."""
    prepared = prepared_stage(context)
    rewrites = rewrites_of(context)
    if not rewrites:
        return prepared

    def make(folder: Path) -> None:
        model = read_model(prepared / MODEL)
        changed, records = rewritten(
            model,
            rewrites,
            rows_of(context),
            context.progress,
            masks=masks_of(dataset(context)),
            per_channel=context.experiment.quantization.per_channel,
        )
        check_equal(model, changed, rows_of(context)(PROVEN_ROWS))
        write_model(folder / MODEL, changed)
        write_text(folder / TUNING, tuning_to_json(records))

    key = context.key(
        model=content(prepared),
        data=data_content(context),
        tuning=[section.model_dump(mode="json") for section in rewrites],
        per_channel=context.experiment.quantization.per_channel,
        versions=versions("onnxruntime", "onnx-ir", "numpy"),
    )
    return context.run.stage("rewritten", key, make)


def rewrites_of(context: Context) -> list[Rewrite]:
    """Returns the tunings that change the FP32 graph."""
    found = context.experiment.quantization.tuning
    return [section for section in found if isinstance(section, Rewrite)]


def number_tunings_of(context: Context) -> list[NumberTuning]:
    """Returns the tunings that change the numbers of a quantized layer."""
    found = context.experiment.quantization.tuning
    return [section for section in found if isinstance(section, NumberTuning)]


def rows_of(context: Context) -> Rows:
    """Returns the calibration rows that tunings read, the same at every call."""
    data, seed = dataset(context), context.experiment.seed

    def first(rows: int) -> Iterator[Inputs]:
        for batch in calibration_rows(data, rows, CLASS_SHARE, seed, PROOF_BATCH_ROWS):
            yield batch.inputs

    return first


def tuned_numbers(
    context: Context, model: ir.Model, plan: Plan, parameters: Parameters
) -> tuple[Parameters, tuple[Tuned, ...]]:
    """Returns the numbers of post-training quantization as the config's tunings leave them."""
    sections = number_tunings_of(context)
    if not sections:
        return parameters, ()
    return tuned(model, plan, parameters, sections, rows_of(context), context.progress)


def tuning_to_json(records: Sequence[Tuned]) -> str:
    """Returns what tunings did, one line per layer."""
    lines = ",\n".join(f"  {json.dumps(asdict(record))}" for record in records)
    return f"[\n{lines}\n]\n"


def read_tuning(folder: Path) -> tuple[Tuned, ...]:
    """Returns what the tunings of a stage did; nothing where it had none."""
    file = folder / TUNING
    if not file.is_file():
        return ()
    return tuple(Tuned(**record) for record in json.loads(file.read_text(encoding="utf-8")))
