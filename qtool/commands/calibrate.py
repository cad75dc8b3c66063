"""``qtool calibrate``: the plan, and the range of every activation that it quantizes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qtool.calibration.calibrate import Forward, observe, ranges
from qtool.calibration.converge import largest_change
from qtool.calibration.outliers import outliers
from qtool.calibration.rows import Inputs
from qtool.calibration.sample import Sample, observe_sample
from qtool.calibration.settled import settle
from qtool.commands.context import Context
from qtool.commands.plan import plan_for
from qtool.commands.prepare import (
    MODEL,
    data_content,
    dataset,
    versions,
)
from qtool.commands.tuning import float_stage
from qtool.config.quantization import Calibrated
from qtool.data.column_fit import Representativeness
from qtool.data.representativeness import representativeness
from qtool.data.representativeness_file import (
    representativeness_from_json,
    representativeness_to_json,
)
from qtool.errors import ConfigError, UsageError
from qtool.graph.model_file import read_model
from qtool.graph.parameters import Range
from qtool.graph.plan import Plan
from qtool.numerics.observers import Observe, observer
from qtool.progress import SilentProgress
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect

PLAN = "plan.json"
RANGES = "ranges.json"
REPRESENTATIVENESS = "representativeness.json"
EMULATED_ROWS = 256
"""Rows on which the saturation of a target's kernels is emulated."""


def calibrate(context: Context, plan: Plan | None = None) -> Path:
    """Observes the planned activations: folder with plan, ranges and representativeness.

    Args:
        context: the experiment.
        plan: of ``plan_for``, for a caller that has made it already.

    Raises:
        ConfigError: the plan has no activation to calibrate.
    """
    section = context.experiment.quantization
    model_folder = float_stage(context)
    plan = plan or plan_for(context)
    if not plan.activations or not isinstance(section, Calibrated):
        raise ConfigError(
            "quantization.method",
            f"{section.method}, which needs no ranges from calibration for this model",
            "a method that computes layers in INT8 with fixed ranges",
            "Use 'qtool quantize' directly.",
        )

    def make(folder: Path) -> None:
        model, data = read_model(model_folder / MODEL), dataset(context)
        seed = context.experiment.seed
        forward = _bfloat16(model) if section.forward == "bfloat16" else None
        seen, sample = observe_sample(data, model, plan, section, seed, context.progress, forward)
        first = next(data.batches("calibration", EMULATED_ROWS, only=sample.rows)).inputs
        settled = settle(model, plan, seen, section, first)
        write_text(folder / PLAN, settled.plan.to_json())
        error = None
        if forward is not None:
            chosen = observer(section.observer)
            error = forward_error(model, settled.plan, first, chosen, forward)
        write_text(folder / RANGES, ranges_to_json(settled.ranges, sample, error))
        rows = data.batches("calibration", only=sample.rows)
        fit = representativeness(data, rows, context.progress)
        text = representativeness_to_json(fit, outliers(settled.statistics))
        write_text(folder / REPRESENTATIVENESS, text)

    key = context.key(
        model=content(model_folder),
        data=data_content(context),
        plan=plan.to_json(),
        section=section.model_dump(mode="json", exclude={"layers", "tuning"}),
        versions=versions("onnxruntime", "numpy", "torch")
        if section.forward == "bfloat16"
        else versions("onnxruntime", "numpy"),
    )
    return context.run.stage("calibrate", key, make, force=context.run.force)


def read_representativeness(folder: Path) -> Representativeness:
    """Returns how the calibration sample of a stage fits the other splits."""
    file = folder / REPRESENTATIVENESS
    return representativeness_from_json(file.read_text(encoding="utf-8"), str(file))


def read_plan(folder: Path) -> Plan:
    """Returns the plan that a stage left in ``folder``."""
    return Plan.from_json((folder / PLAN).read_text(encoding="utf-8"), str(folder / PLAN))


def forward_error(
    model: ir.Model, plan: Plan, rows: Inputs, observer: Observe, forward: Forward
) -> dict[str, Any]:
    """Returns how far the ranges of another arithmetic are from those of float32 on some rows.

    ``range_error`` is the largest distance of two ends as a share of the range's width.
    """
    both = [
        ranges(plan, observe(model, plan, [rows], 0, SilentProgress(), forward=each), observer)
        for each in (None, forward)
    ]
    error, tensor = largest_change(*both)
    count = len(next(iter(rows.values())))
    return {"range_error": error, "tensor": tensor, "rows": count}


def _bfloat16(model: ir.Model) -> Forward:
    if "amx_bf16" not in detect().features:
        raise UsageError(
            "quantization.forward",
            "bfloat16 on a CPU without AMX",
            "float32 here, where bfloat16 is slower",
            "Remove quantization.forward.",
        )
    from qtool.torchgraph.bfloat16 import Bfloat16Graph

    return Bfloat16Graph(model)


def ranges_to_json(found: dict[str, Range], sample: Sample, bfloat16: dict[str, Any] | None) -> str:
    """Returns the ranges as text, with what they were observed on; one line per activation."""
    counted = {"samples": len(sample.rows), "positives": sample.positives, "bfloat16": bfloat16}
    lines = [f'  "{key}": {json.dumps(value)},' for key, value in counted.items()]
    checks = ",\n".join(f"    {json.dumps(asdict(check))}" for check in sample.checks)
    lines += [f'  "checks": [\n{checks}\n  ],', '  "ranges": {']
    rows = [
        f"    {json.dumps(name)}: "
        + json.dumps(
            {
                "low": item.low.tolist(),
                "high": item.high.tolist(),
                "mean_square": item.mean_square.tolist(),
            }
        )
        for name, item in found.items()
    ]
    return "{\n" + "\n".join(lines) + "\n" + ",\n".join(rows) + "\n  }\n}\n"


def ranges_from_json(text: str) -> dict[str, Range]:
    """Returns the ranges that ``ranges_to_json`` wrote."""
    return {
        name: Range(
            np.array(item["low"], np.float32),
            np.array(item["high"], np.float32),
            np.array(item["mean_square"], np.float64),
        )
        for name, item in json.loads(text)["ranges"].items()
    }
