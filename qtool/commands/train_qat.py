"""``qtool train-qat``: fine-tunes the deployed graph with its quantization in the loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from qtool.commands.context import Context
from qtool.commands.prepare import HISTORY, PARITY, PARITY_ROWS, data_content, first_rows, versions
from qtool.commands.quantize import planned, starting_point, write_artifacts
from qtool.commands.teacher import teacher_of
from qtool.commands.training import (
    CHECKPOINT,
    Job,
    criterion_of,
    drop_scratch,
    settings,
    work_in,
)
from qtool.config.training import TrainQat
from qtool.errors import ConfigError
from qtool.evaluation.parity import Arrays, compare, session_with_codes
from qtool.evaluation.results import Parity
from qtool.graph.model_file import outputs_of
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan
from qtool.graph.writing.activations import codes_name
from qtool.history import History
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect
from qtool.runtime.sessions import Session
from qtool.torchgraph.compiled import compiled
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.frozen import Frozen
from qtool.torchgraph.importer import TorchGraph
from qtool.training.fit import Work
from qtool.training.parallel import current
from qtool.training.qat import train_qat as fine_tune

SIMULATION = "fake-quant torch graph"


def train_qat(context: Context) -> Path:
    """Trains and writes: folder with the INT8 model, its plan, coverage, history and parity.

    Raises:
        ConfigError: the config has no ``train_qat`` section.
    """
    section = _section(context)
    original, plan, calibrated = planned(context)

    def make(folder: Path) -> None:
        model, initial = starting_point(original, plan, calibrated)
        graph, fp32 = _graphs(model, plan, initial, section)
        work = work_in(context, section, folder)
        start = {"original": original, "plan": plan, "calibrated": calibrated}
        current().send(Job.of("train-qat", folder, work, **start))
        history = _train(context, section, graph, fp32, work)
        trained, numbers = graph.written_back(model)
        int8 = write_artifacts(folder, trained, plan, numbers, qat=True)
        name = outputs_of(model)[0].name
        parity = graph_parity(graph, int8, plan, name, _inputs(context))
        write_text(folder / HISTORY, history.to_json())
        write_text(folder / PARITY, json.dumps(asdict(parity), indent=2) + "\n")
        for log in work.logs:
            log.end([folder / HISTORY, folder / PARITY])
        drop_scratch(folder)

    key = context.key(
        original=content(original),
        plan=plan.to_json(),
        calibrated=None if calibrated is None else content(calibrated),
        data=data_content(context),
        section=settings(section),
        output=context.experiment.model.output,
        threads=detect().cores,
        versions=versions("torch", "onnxruntime", "onnx-ir"),
    )
    return context.run.stage(
        "train-qat", key, make, resume_from=CHECKPOINT, force=context.run.force
    )


def follow(context: Context, job: Job) -> None:
    """Trains with the first process, in another one of several."""
    section = _section(context)
    model, initial = starting_point(**job.needs)
    graph, fp32 = _graphs(model, job.needs["plan"], initial, section)
    _train(context, section, graph, fp32, job.work(context, section))


def _section(context: Context) -> TrainQat:
    """Returns the section, with the loss of ``training`` when it names none."""
    section = context.experiment.train_qat
    if section is None:
        raise ConfigError(
            "train_qat",
            "no such section in the config",
            "train_qat: {epochs: …}",
            "Add it, or use 'qtool quantize'.",
        )
    loss = section.loss or context.experiment.training.loss
    return section.model_copy(update={"loss": loss})


def _graphs(
    model: ir.Model, plan: Plan, initial: Parameters, section: TrainQat
) -> tuple[FakeQuantGraph, TorchGraph]:
    """Returns what is trained, and the FP32 graph that it starts from."""
    frozen = Frozen(tuple(section.frozen), _run_by_onnxruntime) if section.frozen else None
    float_graph = TorchGraph(model, frozen=frozen)
    graph = FakeQuantGraph(
        float_graph, plan, initial.activations, initial.weights, section.learn_scales
    )
    return graph, TorchGraph(model, trainable=False, frozen=frozen)


def _run_by_onnxruntime(model: ir.Model, where: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    session = Session(model, where)
    return lambda inputs: dict(session.run(inputs, session.output_names))


def _train(
    context: Context, section: TrainQat, graph: FakeQuantGraph, fp32: TorchGraph, work: Work
) -> History:
    forward, why_not = compiled(graph) if section.compile else (graph, None)
    if why_not is not None:
        context.run.tell(f"train-qat: not compiled, {why_not}")
    return fine_tune(
        graph,
        fp32,
        section,
        criterion_of(context, section),
        work,
        teacher=teacher_of(section.distill, work),
        forward=forward,
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
