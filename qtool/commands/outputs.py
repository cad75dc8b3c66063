"""Whether a model has the outputs to which labels and config give a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qtool.commands.context import Context
from qtool.commands.prepare import dataset, first_rows
from qtool.commands.scoring import has_variances, quantile_levels
from qtool.config.experiment import Experiment
from qtool.data.columns import width
from qtool.data.source import Source
from qtool.errors import ConfigError, ModelError
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.predictions import predictions, tags_of
from qtool.graph.model_file import outputs_of, read_model
from qtool.runtime.sessions import Session

WHERE = "the FP32 model"
Shape = tuple[int, ...]


def check_outputs(context: Context, model: Path, metrics: Sequence[Metric]) -> None:
    """Checks that the first output of a model is as wide as labels and config need it.

    Metrics of the user read what they like: where there are no others, labels are not looked at.

    Args:
        context: the experiment.
        model: the prepared model; it takes the inputs that the data give.
        metrics: what is to be computed.

    Raises:
        ConfigError: there are more or fewer positions than classes.
        ModelError: an output of a shape that the task has not, fewer classes than labels have, or
            more or fewer values than targets and quantiles need.
    """
    experiment = context.experiment
    if experiment.task == "language_model":
        return
    shape = _shape_of_a_row(context, model)
    judged = any(":" not in metric.name for metric in metrics)
    if experiment.task == "sequence_tagging":
        tags_of(np.zeros(shape, np.float32), np.zeros(shape[:2], np.int32), WHERE)
        _check_classes(shape[2], len(dataset(context).fitted.encoder.classes or ()), "tags")
        return
    found = predictions(experiment.task, "logit", np.zeros(shape, np.float32), 1, WHERE)
    if experiment.task == "multiclass_classification":
        _check_positions(found.shape[1], experiment)
        rows = dataset(context).fitted.counts.classes["evaluation"] if judged else []
        _check_classes(found.shape[1], len(np.trim_zeros(rows, "b")), "classes")
    elif experiment.task == "regression" and judged:
        _check_values(found.shape[1], experiment, context.source)


def _shape_of_a_row(context: Context, model: Path) -> Shape:
    """Returns the shape of the output for one row, by a run where the graph does not say it."""
    _, *inner = outputs_of(read_model(model))[0].shape or (None, None)
    known = tuple(size for size in inner if isinstance(size, int))
    if len(known) == len(inner):
        return (1, *known)
    session = Session(model, WHERE)
    row = next(first_rows(context, 1)).inputs
    return session.run(row, session.output_names[:1])[session.output_names[0]].shape


def _check_positions(classes: int, experiment: Experiment) -> None:
    trading = experiment.evaluation.trading
    if trading is not None and len(trading.positions) != classes:
        raise ConfigError(
            "evaluation.trading.positions",
            f"{len(trading.positions)} positions, and {classes} classes of the model",
            "one for each class",
            "List them in the order of the model's outputs.",
        )


def _check_classes(outputs: int, labels: int, what: str) -> None:
    if labels > outputs:
        raise ModelError(
            WHERE,
            f"{outputs} {what}",
            f"{labels}, as data.label has",
            "Check data.label, or export the model with all of them.",
        )


def _check_values(found: int, experiment: Experiment, source: Source) -> None:
    targets = sum(width(source.schema, column) for column in experiment.data.label_columns)
    levels = quantile_levels(experiment)
    if experiment.evaluation.risk is not None:
        each, words = 2, "VaR and ES (evaluation.risk)"
    elif levels is not None:
        each, words = len(levels), f"each of {len(levels)} quantiles"
    else:
        each, words = 1, "one value"
    if has_variances(experiment):
        each, words = 2 * each, f"{words} and a variance (loss gaussian_nll)"
    if found != each * targets:
        raise ModelError(
            WHERE,
            f"{found} values per row",
            f"{each * targets}: {words} for each of {targets} numbers of data.label",
            "Check data.label, evaluation.forecast.quantiles and the loss, or export the model "
            "with as many.",
        )
