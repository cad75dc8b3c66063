"""The models before the INT8 one, on the same rows: teacher, FP32, FP32 pruned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qtool.commands.context import Context
from qtool.commands.prepare import MODEL, before_prepared, dataset
from qtool.commands.scoring import Models, batch_rows, predictor
from qtool.config.model import TorchModel
from qtool.config.training import Teacher
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.predictions import predictions
from qtool.evaluation.results import Ancestor, PrunedLayer
from qtool.evaluation.sample import Predictions, Sample
from qtool.graph.model_file import size_bytes
from qtool.runtime.sessions import Session

Scored = tuple[NDArray[np.int64], Predictions]
"""(row numbers, what a model says of them)"""
UNPRUNED, PRUNING = "unpruned.onnx", "pruning.json"
BY_TOKEN = ("language_model", "sequence_tagging")
"""Tasks whose predictions are no output as it is."""


def teacher_of_fp32(context: Context) -> Teacher | None:
    """Returns the teacher that the FP32 model was trained with; None where there was none."""
    model, distill = context.experiment.model, context.experiment.training.distill
    trained = isinstance(model, TorchModel) and model.trains
    return distill.teacher if trained and distill is not None else None


def unpruned(context: Context, prepared: Path) -> Path:
    """Returns the prepared form of the FP32 model that is replaced, which pruning left as it was.

    Args:
        context: the experiment.
        prepared: the prepared model, narrower with ``pruning``.
    """
    pruned = context.experiment.pruning is not None
    return before_prepared(context) / UNPRUNED if pruned else prepared


def pruning(context: Context) -> tuple[PrunedLayer, ...]:
    """Returns what pruning did to each layer; nothing without it."""
    if context.experiment.pruning is None:
        return ()
    records = json.loads((before_prepared(context) / PRUNING).read_text(encoding="utf-8"))
    return tuple(
        PrunedLayer(**{**record, "coupled": tuple(record["coupled"])}) for record in records
    )


def ancestors(
    context: Context, models: Models, metrics: Sequence[Metric], sample: Sample
) -> tuple[Ancestor, ...]:
    """Returns the way from the teacher to INT8; nothing where FP32 is all that was before.

    Args:
        context: the experiment.
        models: FP32 and INT8.
        metrics: what is computed of each.
        sample: the evaluation rows that both have scored.

    Raises:
        ModelError: a model returns what its task cannot read.
    """
    teacher, narrower = teacher_of_fp32(context), context.experiment.pruning is not None
    if context.experiment.task in BY_TOKEN or not (teacher or narrower):
        return ()
    found: list[tuple[str, Predictions, Path]] = []
    if teacher is not None:
        found.append(("teacher", _in_order(sample, _taught(context, teacher)), teacher.onnx))
    found.append(("FP32", sample.fp32, models.original))
    if narrower:
        file = before_prepared(context) / MODEL
        found.append(("FP32, pruned", _in_order(sample, _scored(context, models, file)), file))
    found.append(("INT8", sample.int8, models.int8))
    return tuple(
        Ancestor(
            title,
            {metric.name: metric.build(sample, scores)(None) for metric in metrics},
            size_bytes(file),
        )
        for title, scores, file in found
    )


def _taught(context: Context, section: Teacher) -> Iterator[Scored]:
    # Loads torch, which is there when a model was trained.
    from qtool.commands.teacher import RowScorer

    scorer = RowScorer(context, section)
    where, task = scorer.teacher.where, context.experiment.task
    for batch, values in scorer.scores("evaluation"):
        first = values[scorer.teacher.outputs[0]]
        yield batch.rows, predictions(task, section.output, first, len(batch), where)


def _scored(context: Context, models: Models, file: Path) -> Iterator[Scored]:
    predict = predictor(context.experiment, Session(file, "the pruned model"))
    size = batch_rows(context.experiment, models.plan)
    for batch in dataset(context).batches("evaluation", size):
        yield batch.rows, predict(batch)


def _in_order(sample: Sample, pieces: Iterator[Scored]) -> Predictions:
    """Returns predictions in the order of the rows of a sample, which may be that of time."""
    rows, found = zip(*pieces, strict=True)
    ordered = np.empty_like(joined := np.concatenate(found))
    ordered[np.argsort(sample.rows)] = joined[np.argsort(np.concatenate(rows))]
    return ordered
