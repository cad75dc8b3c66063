"""``qtool quantize``: post-training quantization, and the coverage of every node."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from qtool import __version__
from qtool.commands.calibrate import (
    PLAN,
    RANGES,
    calibrate,
    ranges_from_json,
    read_plan,
)
from qtool.commands.context import Context
from qtool.commands.plan import plan_for
from qtool.commands.prepare import MODEL, data_content, versions
from qtool.commands.tuning import (
    TUNING,
    float_stage,
    number_tunings_of,
    tuned_numbers,
    tuning_to_json,
)
from qtool.evaluation.coverage import coverage
from qtool.evaluation.results import NodeCoverage
from qtool.graph.model_file import read_model, write_model
from qtool.graph.parameters import Parameters, Range, derive
from qtool.graph.plan import Plan
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.runs import content, write_text
from qtool.runtime.cpu import architecture
from qtool.runtime.kernels import kernels_of

INT8_MODEL = "model.int8.onnx"
COVERAGE = "coverage.json"


def quantize(context: Context) -> Path:
    """Writes the INT8 model: folder with model.int8.onnx, plan.json and coverage.json."""
    original, plan, calibrated = planned(context)
    tunings = number_tunings_of(context)

    def make(folder: Path) -> None:
        model, parameters = starting_point(original, plan, calibrated)
        parameters, records = tuned_numbers(context, model, plan, parameters)
        with context.progress.task("quantize") as task:
            write_artifacts(folder, model, plan, parameters, qat=False)
            task.advance()
        if tunings:
            write_text(folder / TUNING, tuning_to_json(records))

    key = context.key(
        model=content(original),
        plan=plan.to_json(),
        calibrated=None if calibrated is None else content(calibrated),
        tuning=[section.model_dump(mode="json") for section in tunings],
        data=data_content(context) if tunings else None,
        versions=versions("onnxruntime", "onnx-ir", "numpy"),
    )
    return context.run.stage("quantize", key, make, force=context.run.force)


def planned(context: Context) -> tuple[Path, Plan, Path | None]:
    """Returns the folder of the FP32 model, the plan, and the folder of the ranges.

    Calibration settles the plan; a plan without calibrated activations needs none.
    """
    original = float_stage(context)
    plan = plan_for(context)
    if not plan.activations:
        return original, plan, None
    calibrated = calibrate(context, plan)
    return original, read_plan(calibrated), calibrated


def starting_point(
    original: Path, plan: Plan, calibrated: Path | None
) -> tuple[ir.Model, Parameters]:
    """Returns the FP32 model, and the numbers of its post-training quantization."""
    model = read_model(original / MODEL)
    ranges: dict[str, Range] = {}
    if calibrated is not None:
        ranges = ranges_from_json((calibrated / RANGES).read_text(encoding="utf-8"))
    return model, derive(model, plan, ranges)


def write_artifacts(
    folder: Path, model: ir.Model, plan: Plan, parameters: Parameters, *, qat: bool
) -> ir.Model:
    """Writes INT8 model, plan and coverage into ``folder``; returns the INT8 model."""
    metadata = {
        "version": __version__,
        "method": plan.method,
        "qat": str(qat).lower(),
        "target": plan.target,
        "prepared_sha256": plan.model_sha256,
    }
    int8 = write(model, plan, parameters, metadata)
    here = TARGETS[plan.target].architecture == architecture()
    nodes = coverage(model, plan, kernels_of(int8, INT8_MODEL) if here else None)
    write_model(folder / INT8_MODEL, int8)
    write_text(folder / PLAN, plan.to_json())
    lines = ",\n".join(f"  {json.dumps(asdict(node))}" for node in nodes)
    write_text(folder / COVERAGE, f"[\n{lines}\n]\n")
    return int8


def read_coverage(folder: Path) -> tuple[NodeCoverage, ...]:
    """Returns the coverage that ``write_artifacts`` wrote."""
    rows = json.loads((folder / COVERAGE).read_text(encoding="utf-8"))
    return tuple(NodeCoverage(**row) for row in rows)
