"""``qtool train-qat``: fine-tunes the deployed graph with its quantization in the loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir
import torch

from qtool.commands.calibrate import RANGES, calibrate, ranges_from_json, read_plan
from qtool.commands.context import Context
from qtool.commands.plan import plan_for
from qtool.commands.prepare import (
    MODEL,
    PARITY,
    PARITY_ROWS,
    data_content,
    first_rows,
    prepared_stage,
    versions,
)
from qtool.commands.quantize import write_artifacts
from qtool.commands.train_fp32 import CHECKPOINT, HISTORY, drop_scratch, training_rows
from qtool.errors import ConfigError, ModelError
from qtool.evaluation.parity import Arrays, compare, session_with_codes
from qtool.evaluation.results import Parity
from qtool.graph.model_file import outputs_of, read_model
from qtool.graph.parameters import Parameters, constants_of, derive
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import codes_name
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph
from qtool.training.qat import train_qat as fine_tune

SIMULATION = "fake-quant torch graph"


def train_qat(context: Context) -> Path:
    """Trains and writes: folder with the INT8 model, its plan, coverage, history and parity.

    Raises:
        ConfigError: the config has no ``train_qat`` section.
        ModelError: no layer computes in INT8, so that training has nothing to adapt to.
    """
    section = context.experiment.train_qat
    if section is None:
        raise ConfigError(
            "train_qat",
            "no such section in the config",
            "train_qat: {epochs: …}",
            "Add it, or use 'qtool quantize'.",
        )
    planned = plan_for(context)
    if not planned.activations:
        raise ModelError(
            "train_qat",
            "the plan has no layer that computes in INT8",
            "one for training to adapt to",
            "Remove train_qat: what is only stored in INT8 needs no training.",
        )
    prepared, calibrated = prepared_stage(context), calibrate(context, planned)
    plan = read_plan(calibrated)
    threads = detect().cores

    def make(folder: Path) -> None:
        model = read_model(prepared / MODEL)
        ranges = ranges_from_json((calibrated / RANGES).read_text(encoding="utf-8"))
        initial = derive(model, plan, ranges)
        graph = FakeQuantGraph(
            TorchGraph(model), plan, initial.activations, initial.weights, section.learn_scales
        )
        rows, validation = training_rows(context, folder)
        history = fine_tune(
            graph,
            TorchGraph(model, trainable=False),
            rows,
            validation,
            section,
            seed=context.experiment.seed,
            checkpoint=folder / CHECKPOINT,
            progress=context.progress,
            output=context.experiment.model.output,
            threads=threads,
        )
        trained = Parameters(
            {**constants_of(model), **graph.weights()},
            graph.activation_qparams(),
            graph.weight_qparams(),
        )
        int8 = write_artifacts(folder, model, plan, trained, qat=True)
        name = outputs_of(model)[0].name
        parity = graph_parity(graph, int8, plan, name, _inputs(context))
        write_text(folder / HISTORY, history.to_json())
        write_text(folder / PARITY, json.dumps(asdict(parity), indent=2) + "\n")
        drop_scratch(folder)

    key = context.key(
        prepared=content(prepared),
        calibrated=content(calibrated),
        data=data_content(context),
        section=section.model_dump(mode="json"),
        output=context.experiment.model.output,
        threads=threads,
        versions=versions("torch", "onnxruntime", "onnx-ir"),
    )
    return context.run.stage(
        "train-qat", key, make, resume_from=CHECKPOINT, force=context.run.force
    )


def graph_parity(
    graph: FakeQuantGraph, int8: ir.Model, plan: Plan, output: str, batches: Iterator[Arrays]
) -> Parity:
    """Returns the parity of the trained torch graph with the INT8 model in ONNX Runtime.

    Args:
        graph: what was trained.
        int8: what was written from it.
        plan: of both.
        output: name of the graph output to compare.
        batches: model inputs.
    """
    session = session_with_codes(int8, plan)
    names = list(plan.activations)

    def both(batch: Arrays) -> tuple[Arrays, Arrays]:
        tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
        with torch.no_grad():
            result = graph(tensors)[output].numpy()
        codes = graph.codes(tensors, names)
        simulated = {codes_name(name): codes[name] for name in names} | {output: result}
        return simulated, session.run(batch, list(simulated))

    return compare(SIMULATION, plan, map(both, batches))


def _inputs(context: Context) -> Iterator[Arrays]:
    return (batch.inputs for batch in first_rows(context, PARITY_ROWS))
