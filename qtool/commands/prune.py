"""The stage ``pruned``: a narrower FP32 graph, fine-tuned."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from qtool.commands.ancestors import PRUNING, UNPRUNED
from qtool.commands.context import Context
from qtool.commands.prepare import (
    HISTORY,
    MODEL,
    data_content,
    fp32_stage,
    prepared_model,
    versions,
)
from qtool.commands.teacher import teacher_of
from qtool.commands.training import (
    CHECKPOINT,
    Job,
    criterion_of,
    drop_scratch,
    settings,
    work_in,
)
from qtool.config.pruning import Pruning
from qtool.config.training import FineTune
from qtool.graph.model_file import read_model, write_model
from qtool.graph.parameters import with_constants
from qtool.history import History
from qtool.pruning.importance import Batches, Importance, contribution, taylor
from qtool.pruning.prune import choose, prunable, records_of, without
from qtool.pruning.units import Units
from qtool.runs import content, write_text
from qtool.runtime.cpu import detect
from qtool.torchgraph.importer import TorchGraph
from qtool.training.batches import epoch_order, take
from qtool.training.distillation import model_inputs
from qtool.training.fit import Work
from qtool.training.graph import fine_tune
from qtool.training.parallel import current
from qtool.training.reproducible import reproducible

UNTRAINED = "untrained.onnx"
BATCH = 32
"""Rows of a mini-batch whose gradient counts as one: over many rows a trained model has none."""


def pruned_stage(context: Context) -> Path:
    """Prunes and fine-tunes: folder with both models, widths and history.

    ``unpruned.onnx`` is the FP32 model in its prepared form.

    Raises:
        ConfigError: a rule matches no layer that can be made narrower, or an option of the training
            does not fit the task.
        ModelError: no layer can be made narrower.
    """
    section, original = _section(context), fp32_stage(context)
    training = _training(context, section)

    def make(folder: Path) -> None:
        unpruned = prepared_model(context, original / MODEL)
        units = prunable(unpruned, section)
        work = work_in(context, training, folder)
        if not (folder / UNTRAINED).is_file():
            importance = _importance(context, section, unpruned, units, work)
            chosen = choose(units, section, importance)
            write_model(folder / UNPRUNED, unpruned)
            records = records_of(units, chosen, section)
            write_text(
                folder / PRUNING, json.dumps([asdict(one) for one in records], indent=1) + "\n"
            )
            write_model(folder / UNTRAINED, without(unpruned, units, chosen))
        current().send(Job.of("pruned", folder, work))
        graph, history = _fine_tune(context, training, folder, work)
        trained = with_constants(read_model(folder / UNTRAINED), graph.weights())
        write_model(folder / MODEL, trained)
        write_text(folder / HISTORY, history.to_json())
        for log in work.logs:
            log.end([folder / HISTORY])
        drop_scratch(folder)
        (folder / UNTRAINED).unlink()

    key = context.key(
        model=content(original),
        data=data_content(context),
        section=section.model_dump(mode="json", exclude={"fine_tune"}),
        training=settings(training),
        output=context.experiment.model.output,
        threads=detect().cores,
        versions=versions("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime"),
    )
    return context.run.stage("pruned", key, make, resume_from=CHECKPOINT)


def follow(context: Context, job: Job) -> None:
    """Trains with the first process, in another one of several."""
    training = _training(context, _section(context))
    _fine_tune(context, training, job.folder, job.work(context, training))


def _section(context: Context) -> Pruning:
    section = context.experiment.pruning
    assert section is not None
    return section


def _training(context: Context, section: Pruning) -> FineTune:
    """Returns the section of the fine-tuning, with the loss of ``training`` when it names none."""
    training = section.fine_tune
    loss = training.loss or context.experiment.training.loss
    return training.model_copy(update={"loss": loss})


def _importance(
    context: Context, section: Pruning, model: ir.Model, units: Units, work: Work
) -> Importance:
    criterion = criterion_of(context, _training(context, section))
    with reproducible(work.place.threads), context.progress.task("importance of units") as task:
        graph = TorchGraph(model).to(work.place.device)
        batches = _batches(section, work)
        if section.criterion == "contribution":
            found = contribution(graph, units, batches)
        else:
            found = taylor(graph, units, batches, criterion.loss)
        task.advance()
    return found


def _batches(section: Pruning, work: Work) -> Batches:
    order = epoch_order(len(work.rows), work.seed, 0)[: section.rows]
    for start in range(0, len(order), BATCH):
        inputs, labels = take(work.rows, order[start : start + BATCH], work.place.device)
        yield model_inputs(inputs), labels


def _fine_tune(
    context: Context, training: FineTune, folder: Path, work: Work
) -> tuple[TorchGraph, History]:
    graph = TorchGraph(read_model(folder / UNTRAINED))
    fp32 = TorchGraph(read_model(folder / UNPRUNED), trainable=False)
    teacher = teacher_of(training.distill, work)
    criterion = criterion_of(context, training)
    return graph, fine_tune(graph, fp32, training, criterion, work, teacher)
