"""Metrics of several classes.

Labels are int64 (rows,), from 0; predictions are float32 (rows, classes), probabilities, of which
the largest is the predicted class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qtool.errors import ModelError
from qtool.evaluation.metrics.binary import SMALLEST_PROBABILITY
from qtool.evaluation.metrics.metric import Build, Floats, Metric, mean_of, ratio
from qtool.evaluation.sample import Predictions, Sample, Statistic, Weights


def accuracy(sample: Sample, predictions: Predictions) -> Statistic:
    """Returns the statistic share of rows whose class is predicted.

    Source: scikit-learn ``accuracy_score``.
    """
    return mean_of((predicted(predictions) == sample.labels).astype(np.float64))


def macro_f1(true: Floats, labelled: Floats, found: Floats) -> float:
    """Returns the mean F1 of the classes that are labels or predictions.

    Args:
        true: rows of each class that are predicted as it, (classes,).
        labelled: rows of each class.
        found: rows predicted as each class.

    Source: scikit-learn ``f1_score(..., average="macro")``.
    """
    either = labelled + found
    occurs = either > 0
    return ratio((2 * true[occurs] / either[occurs]).sum(), occurs.sum())


def mcc(true: Floats, labelled: Floats, found: Floats) -> float:
    """Returns the Matthews correlation coefficient, 0 where one class is all labels or predictions.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient", equation 8; scikit-learn ``matthews_corrcoef``; arguments of ``macro_f1``.
    """
    rows = labelled.sum()
    if not rows:
        return float("nan")
    spread = (rows**2 - found @ found) * (rows**2 - labelled @ labelled)
    return float((true.sum() * rows - found @ labelled) / np.sqrt(spread)) if spread else 0.0


def log_loss(sample: Sample, probabilities: Predictions) -> Statistic:
    """Returns the statistic mean negative log-likelihood of the labels, nats.

    Probabilities are kept from 0 and 1, as those of binary scores.

    Source: scikit-learn ``log_loss``.
    """
    of_label = probabilities[np.arange(len(probabilities)), classes_of(sample, probabilities)]
    kept = of_label.astype(np.float64).clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return mean_of(-np.log(kept))


def predicted(probabilities: Predictions) -> NDArray[np.int64]:
    """Returns the class of every row, (rows,): the first of those with the largest probability."""
    return np.asarray(probabilities.argmax(axis=1), np.int64)


def classes_of(sample: Sample, probabilities: Predictions) -> NDArray[np.int64]:
    """Returns the labels of the rows, which number columns of ``probabilities``.

    Raises:
        ModelError: a label is beyond the model's classes.
    """
    classes = probabilities.shape[1]
    beyond = np.flatnonzero(sample.labels >= classes)
    if beyond.size:
        found = f"{classes} classes, and class {sample.labels[beyond[0]]}"
        raise ModelError(
            "model output",
            f"{found} at row {sample.rows[beyond[0]]}",
            "a probability for every class",
            "Check data.label.",
        )
    labels: NDArray[np.int64] = sample.labels
    return labels


def _counted(figure: Callable[[Floats, Floats, Floats], float]) -> Build:
    """Returns what builds a figure of rows per class; its arguments are those of ``macro_f1``."""

    def build(sample: Sample, probabilities: Predictions) -> Statistic:
        labels, found = classes_of(sample, probabilities), predicted(probabilities)
        right = np.flatnonzero(labels == found)
        classes = probabilities.shape[1]

        def count(codes: NDArray[np.int64], weights: Weights | None) -> Floats:
            return np.bincount(codes, weights, classes).astype(np.float64)

        def statistic(weights: Weights | None) -> float:
            true = count(labels[right], None if weights is None else weights[right])
            return figure(true, count(labels, weights), count(found, weights))

        return statistic

    return build


METRICS = (
    Metric("accuracy", "Accuracy", "higher", accuracy, span=1),
    Metric("macro_f1", "Macro F1", "higher", _counted(macro_f1), span=1),
    Metric("mcc", "MCC", "higher", _counted(mcc), span=2),
    Metric("log_loss", "Log loss", "lower", log_loss),
)
