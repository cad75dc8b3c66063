"""The rows of a split as both models score them: streamed, and kept as small as metrics allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qtool.commands.context import Context
from qtool.commands.prepare import dataset
from qtool.config.data import TimeSplit
from qtool.config.experiment import Experiment
from qtool.config.losses import GaussianNll, Loss, NextToken, Quantile
from qtool.data.batch import Batch, labels_of
from qtool.data.columns import is_number, is_text, refuse_type
from qtool.data.dataset import Dataset
from qtool.data.judging_columns import check_judging_columns, missing_of
from qtool.data.source import Source
from qtool.data.split import SplitName
from qtool.data.values import place
from qtool.errors import ConfigError, DataError
from qtool.evaluation.predictions import predictions, tags_of, tokens_of
from qtool.evaluation.results import NodeCoverage
from qtool.evaluation.sample import Predictions, Sample
from qtool.graph.plan import Plan
from qtool.history import History
from qtool.runtime.sessions import Arrays, Session

BATCH_ROWS = 1024
LANGUAGE_BATCH_ROWS = 16
"""The logits of every token of a batch are held at once, one per word of the vocabulary."""
TAGGING_BATCH_ROWS = 128
"""So are those of every tag, which are few."""


@dataclass(frozen=True)
class Models:
    """The models that are compared, as files, and the plan and the training of the INT8 one."""

    original: Path
    prepared: Path
    int8: Path
    plan: Plan
    coverage: tuple[NodeCoverage, ...]
    parity: Path
    training: History | None


def judging_columns(experiment: Experiment) -> tuple[str, ...]:
    """Returns the columns that the evaluation reads beside inputs and labels, each once."""
    section, split = experiment.evaluation, experiment.data.split
    named = [
        split.column if isinstance(split, TimeSplit) else None,
        *section.segments,
        *(section.fairness.columns if section.fairness else ()),
        section.trading.returns if section.trading else None,
        section.forecast.history,
        section.retrieval.query,
        section.resampling.cluster,
        *(section.robustness.mutable_columns if section.robustness else ()),
    ]
    return tuple(dict.fromkeys(name for name in named if name is not None))


def check_judged(source: Source, experiment: Experiment) -> None:
    """Checks that a source has these columns, each of a type that fits what it is named for.

    Raises:
        DataError: one is missing, or of another type.
    """
    section = experiment.evaluation
    shown = section.system.columns if section.system else ()
    check_judging_columns(source, (*judging_columns(experiment), *shown))
    told_apart = [*section.segments, *(section.fairness.columns if section.fairness else ())]
    counted = [section.trading.returns if section.trading else None, section.retrieval.query]
    for column in filter(None, [*told_apart, section.resampling.cluster]):
        if _holds_lists(source, column):
            refuse_type(source, column, "one value per row, by which rows are told apart")
    for column in section.monotonicity.columns if section.monotonicity else ():
        if column in source.schema.names and is_text(source.schema.field(column).type):
            refuse_type(source, column, "numbers or integer categories, whose order can be kept")
    for column in filter(None, counted):
        if not is_number(source.schema.field(column).type):
            refuse_type(source, column, "numbers or booleans")
    history = section.forecast.history
    if history is not None and not _holds_lists(source, history):
        refuse_type(source, history, "lists of numbers: what came before the forecast of the row")


def _holds_lists(source: Source, column: str) -> bool:
    """Of the types of ``check_judging_columns`` only lists have a field of their own."""
    return bool(source.schema.field(column).type.num_fields)


def scored(
    context: Context, models: Models, split: SplitName, columns: Sequence[str] = ()
) -> Sample:
    """Returns the rows of a split with the predictions of the original FP32 and the INT8 model.

    They are in the order of the source, or of time where the split is by time and its column among
    ``columns``.

    Raises:
        ModelError: a model returns what its task cannot read.
        DataError: a row is of no cluster.
    """
    sessions = Session(models.original, "the FP32 model"), Session(models.int8, "the INT8 model")
    data, rows_at_once = dataset(context), batch_rows(context.experiment, models.plan)
    read = reader(context.experiment, sessions)
    pieces = []
    with context.progress.task(f"score {split} rows", data.fitted.counts.rows[split]) as task:
        for batch in data.batches(split, rows_at_once, columns=columns):
            _check_clusters(context, batch)
            pieces.append(read(batch))
            task.advance(len(batch))
    return whole(pieces, data)


def whole(pieces: Sequence[Sample], data: Dataset) -> Sample:
    """Returns the rows of all pieces, in the order of time where they are split by it and know it.

    Args:
        pieces: of one split.
        data: which they are of.
    """
    sample = dataclasses.replace(joined(pieces), classes=data.fitted.encoder.classes)
    by = data.section.split
    if isinstance(by, TimeSplit) and by.column in sample.columns:
        # Files need not be in the order of time, and neighbours are drawn together.
        sample = sample.take(np.argsort(sample.columns[by.column], kind="stable"))
    return sample


def _check_clusters(context: Context, batch: Batch) -> None:
    """Rows of no customer would all be drawn together, as those of one."""
    cluster = context.experiment.evaluation.resampling.cluster
    if cluster not in batch.columns:
        return
    missing = missing_of(batch.columns[cluster])
    if missing.any():
        raise DataError(
            place(context.source.name, cluster, int(batch.rows[missing.argmax()])),
            "a missing value",
            "a value in every row, as evaluation.resampling.cluster",
            "Fill it in, or name another column.",
        )


class Scorer(Protocol):
    """A model at work: a session, or what remembers the answers of one."""

    where: str
    output_names: list[str]

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> Arrays:
        """Returns the named outputs for one batch."""


def reader(experiment: Experiment, sessions: tuple[Scorer, Scorer]) -> Callable[[Batch], Sample]:
    """Returns what scores a batch with FP32 and INT8."""
    if experiment.task == "language_model":
        return _token_reader(experiment, sessions)
    if experiment.task == "sequence_tagging":
        return lambda batch: _tagged(batch, sessions)
    fp32, int8 = (predictor(experiment, session) for session in sessions)
    return lambda batch: _sample(batch, fp32(batch), int8(batch))


def predictor(experiment: Experiment, session: Scorer) -> Callable[[Batch], Predictions]:
    """Returns what scores a batch with one model, of a task whose outputs are judged by row."""
    kind, task = experiment.model.output, experiment.task
    gaussian = has_variances(experiment)

    def predict(batch: Batch) -> Predictions:
        found: Predictions = predictions(
            task, kind, _first(session, batch), len(batch), session.where
        )
        # Behind the means are the log variances.
        return found[:, : found.shape[1] // 2] if gaussian else found

    return predict


def batch_rows(experiment: Experiment, plan: Plan) -> int:
    """A dynamic model's scores depend on the batch: it is judged at the largest one served."""
    if plan.has("dynamic"):
        return max(experiment.target.batch_sizes)
    of_task = {"language_model": LANGUAGE_BATCH_ROWS, "sequence_tagging": TAGGING_BATCH_ROWS}
    return of_task.get(experiment.task, BATCH_ROWS)


def quantile_levels(experiment: Experiment) -> list[float] | None:
    """Returns the levels of the outputs of a regression; None where it has no quantiles."""
    if experiment.evaluation.forecast.quantiles is not None:
        return experiment.evaluation.forecast.quantiles
    found = (loss.quantiles for loss in _losses(experiment) if isinstance(loss, Quantile))
    return next(found, None)


def has_variances(experiment: Experiment) -> bool:
    """Returns whether the second half of the outputs of a regression are log variances."""
    return any(isinstance(loss, GaussianNll) for loss in _losses(experiment))


def _losses(experiment: Experiment) -> list[Loss]:
    """Returns the losses that the config names, that of quantization-aware training first."""
    sections = [experiment.train_qat, experiment.training]
    losses = [section.loss for section in sections if section is not None]
    return [loss for loss in losses if loss is not None]


def joined(pieces: Sequence[Sample]) -> Sample:
    """Returns the rows of all pieces, in their order."""
    agreeing = [piece.agreeing for piece in pieces if piece.agreeing is not None]
    return Sample(
        np.concatenate([piece.rows for piece in pieces]),
        np.concatenate([piece.labels for piece in pieces]),
        np.concatenate([piece.fp32 for piece in pieces]),
        np.concatenate([piece.int8 for piece in pieces]),
        {
            name: np.concatenate([piece.columns[name] for piece in pieces])
            for name in pieces[0].columns
        },
        np.concatenate(agreeing) if agreeing else None,
    )


def _first(session: Scorer, batch: Batch) -> NDArray[Any]:
    name = session.output_names[0]
    return session.run(batch.inputs, [name])[name]


def _sample(
    batch: Batch, fp32: Predictions, int8: Predictions, agreeing: NDArray[np.int64] | None = None
) -> Sample:
    labels = np.empty((len(batch), 0)) if batch.labels is None else batch.labels
    return Sample(batch.rows, labels, fp32, int8, batch.columns, agreeing)


def _token_reader(
    experiment: Experiment, sessions: tuple[Scorer, Scorer]
) -> Callable[[Batch], Sample]:
    tokens, ignore = _next_token(experiment)

    def read(batch: Batch) -> Sample:
        name = tokens if tokens is not None else _only_integers(batch)
        found = [
            tokens_of(_first(session, batch), batch.inputs[name], ignore, session.where)
            for session in sessions
        ]
        (fp32, best, counted), (int8, other, _) = found
        return _sample(batch, fp32, int8, ((best == other) & counted).sum(axis=1))

    return read


def _tagged(batch: Batch, sessions: tuple[Scorer, Scorer]) -> Sample:
    fp32, int8 = (
        tags_of(_first(session, batch), labels_of(batch), session.where) for session in sessions
    )
    return _sample(batch, fp32, int8)


def _next_token(experiment: Experiment) -> tuple[str | None, int | None]:
    losses = (loss for loss in _losses(experiment) if isinstance(loss, NextToken))
    loss = next(losses, NextToken(name="next_token"))
    return loss.tokens, loss.ignore


def _only_integers(batch: Batch) -> str:
    names = [name for name, x in batch.inputs.items() if np.issubdtype(x.dtype, np.integer)]
    if len(names) != 1:
        raise ConfigError(
            "train_qat.loss.tokens",
            f"{len(names)} integer inputs: {', '.join(names) or 'none'}",
            "the name of the one that holds the tokens",
            "Set loss: {name: next_token, tokens: INPUT}.",
        )
    return names[0]
