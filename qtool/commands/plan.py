"""The plan of an experiment: who is quantized how, before any number is known."""

from __future__ import annotations

import onnx_ir as ir

from qtool.commands.context import Context
from qtool.commands.prepare import MODEL, dataset
from qtool.commands.tuning import float_stage
from qtool.config.quantization import AutoQuantization, FastestQuantization
from qtool.errors import ModelError
from qtool.graph.costs import Workload, measured_values
from qtool.graph.model_file import model_sha256, read_model
from qtool.graph.plan import Plan
from qtool.graph.planner import make_plan
from qtool.runtime.shapes import shapes_of

WORKLOAD_ROWS = 16
"""Rows whose shapes tell how much each layer has to do, where sequences differ in length."""


def plan_for(context: Context) -> Plan:
    """Returns the plan of the FP32 model that is quantized, for this config and target.

    Raises:
        ModelError: the plan quantizes nothing, so that the result would be a copy.
        ConfigError: a layer rule matches no node, or asks for what its layer cannot be.
    """
    path = float_stage(context) / MODEL
    model, section = read_model(path), context.experiment.quantization
    if isinstance(section, AutoQuantization):
        raise ValueError("auto has no plan before its search")
    workload = workload_of(context, model) if isinstance(section, FastestQuantization) else None
    plan = make_plan(model, model_sha256(path), section, context.target, workload)
    if not plan.weights and not plan.activations:
        raise ModelError(
            "the FP32 model",
            "nothing to quantize",
            "a layer or an embedding table with constant float32 weights",
            "Export it in float32, or correct quantization.layers if that keeps all in float.",
        )
    return plan


def workload_of(context: Context, model: ir.Model) -> Workload:
    """Returns what the model will be asked, with the shapes of real rows."""
    rows = next(dataset(context).batches("calibration", WORKLOAD_ROWS))
    shapes = shapes_of(model, measured_values(model), rows.inputs)
    return Workload(tuple(context.experiment.target.batch_sizes), shapes, len(rows))
