"""Metrics of binary scores, and the points of their curves.

Labels are int8, 0 or 1; scores are float32 probabilities in [0, 1]; both have shape (rows,).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from qtool.errors import DataError, ModelError
from qtool.evaluation.metrics.metric import Build, Floats, Metric, mean_of, ratio, summed
from qtool.evaluation.sample import Predictions, Sample, Statistic, Weights

Labels = NDArray[np.int8]
Values = NDArray[np.float32]

ECE_BINS = 15  # Naeini et al. 2015 and Guo et al. 2017 (arXiv 1706.04599) report ECE with 15 bins.
AT_FPR = re.compile(r"recall_at_fpr_((?=.*[1-9])\d*\.?\d+(?:e-\d+)?)")
SMALLEST_WEIGHT = float(np.finfo(np.float64).tiny)
SMALLEST_PROBABILITY = float(np.finfo(np.float32).eps)
"""Of which a logarithm is taken: scikit-learn's ``log_loss`` clips float32 to the same."""


def auc(true: Floats, false: Floats) -> float:
    """Returns the area under the ROC curve; a tied pair counts one half.

    Args:
        true: positives that score at least each distinct score, from the highest down, (scores,).
        false: negatives, likewise.

    Source: scikit-learn ``roc_auc_score``.
    """
    twice = true[0] * false[0] + summed(false[1:] - false[:-1], true[1:] + true[:-1])
    return ratio(twice, 2 * true[-1] * false[-1])


def gini(true: Floats, false: Floats) -> float:
    """Returns 2 * AUC - 1, the accuracy ratio of credit scoring; arguments of ``auc``.

    Source: Engelmann, Hayden, Tasche 2003, "Testing rating accuracy", Risk 16(1).
    """
    return 2 * auc(true, false) - 1


def ks(true: Floats, false: Floats) -> float:
    """Returns the largest distance between the score distributions; arguments of ``auc``.

    It is max |TPR - FPR| over all thresholds: two-sided, so a model that ranks backwards shows
    a distance too.

    Source: two-sample Kolmogorov-Smirnov statistic; equals SciPy ``ks_2samp(...).statistic``.
    """
    if not true[-1] * false[-1]:
        return float("nan")
    return float(np.abs(true / true[-1] - false / false[-1]).max())


def pr_auc(true: Floats, false: Floats) -> float:
    """Returns average precision, the step-wise area under the precision-recall curve.

    Source: scikit-learn ``average_precision_score``; arguments of ``auc``.
    """
    flagged = true + false
    # Where none is flagged, no positive is either.
    precision = true / np.maximum(flagged, SMALLEST_WEIGHT, out=flagged)
    area = true[0] * precision[0] + summed(true[1:] - true[:-1], precision[1:])
    return ratio(area, true[-1])


def recall_at_fpr(rate: float, true: Floats, false: Floats) -> float:
    """Returns the largest TPR of the ROC points whose FPR is at most ``rate``.

    Source: scikit-learn ``roc_curve``; other arguments of ``auc``.
    """
    if not true[-1] * false[-1]:
        return float("nan")
    points = int(np.searchsorted(false / false[-1], rate, side="right"))
    return float(true[points - 1] / true[-1]) if points else 0.0


def brier(sample: Sample, scores: Predictions) -> Statistic:
    """Returns the statistic mean squared difference of score and label.

    Source: scikit-learn ``brier_score_loss``.
    """
    return mean_of((scores.astype(np.float64) - sample.labels) ** 2)


def log_loss(sample: Sample, scores: Predictions) -> Statistic:
    """Returns the statistic mean negative log-likelihood, nats, of scores kept from 0 and 1.

    Source: scikit-learn ``log_loss``.
    """
    kept = np.clip(scores.astype(np.float64), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return mean_of(-np.log(np.where(sample.labels == 1, kept, 1 - kept)))


def ece(sample: Sample, scores: Predictions) -> Statistic:
    """Returns the statistic expected calibration error over at most 15 bins of equal mass.

    The bins are those of ``equal_mass_edges`` of the rows that are drawn, so tied scores share a
    bin. With n rows the error is the sum over the bins of |positives - sum of scores| / n, which is
    the mean over rows of |observed rate - mean score| of the row's bin.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"
    (definition); Nixon et al. 2019, arXiv 1904.01685 (bins of equal mass).
    """
    order = np.argsort(scores)
    ranked = scores[order]
    gaps = sample.labels[order] - ranked.astype(np.float64)

    def statistic(weights: Weights | None) -> float:
        drawn = np.ones(len(ranked)) if weights is None else weights[order]
        reached = np.cumsum(drawn)
        if not reached[-1]:
            return float("nan")
        ranks = np.arange(1, ECE_BINS) * reached[-1] // ECE_BINS
        edges = np.unique(ranked[np.searchsorted(reached, ranks, side="right")])
        # Below the first edge there is no row when that is the smallest score.
        starts = np.unique([0, *np.searchsorted(ranked, edges)])
        return float(np.abs(np.add.reduceat(drawn * gaps, starts)).sum() / reached[-1])

    return statistic


def roc_points(labels: Labels, scores: Values) -> tuple[Floats, Floats]:
    """Returns false and true positive rates at every distinct score, from (0, 0) to (1, 1).

    Source: scikit-learn ``roc_curve`` with ``drop_intermediate=False``.
    """
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return fpr, tpr


def equal_mass_edges(scores: Values, bins: int) -> Values:
    """Returns the inner edges of at most ``bins`` bins that hold equally many scores.

    Edge k of 1..bins-1 is the sorted score at index floor(k * n / bins). A bin holds
    edge <= score < next edge; the outer bins are open. Equal edges are merged, so tied scores are
    never divided and heavy ties give fewer bins.
    """
    ranks = np.arange(1, bins) * len(scores) // bins
    return np.unique(np.partition(scores, ranks)[ranks])


def check_scores(sample: Sample) -> None:
    """Checks that every FP32 and INT8 score is a probability.

    Raises:
        ModelError: a score is NaN or outside [0, 1]; the text names the first row.
    """
    for model, values in (("FP32", sample.fp32), ("INT8", sample.int8)):
        # A NaN fails both comparisons, so it is counted here too.
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if wrong.size:
            raise ModelError(
                f"scores of the {model} model",
                f"{wrong.size} of {values.size} scores are not probabilities, the first is "
                f"{values[wrong[0]]} at row {sample.rows[wrong[0]]}",
                "numbers from 0 to 1",
                "Check model.output (logit or probability) and the inputs of that row.",
            )


def check_labels(labels: Labels) -> None:
    """Checks that labels are 0 and 1 and that both occur.

    Raises:
        DataError: another label, or one class has no row.
    """
    found = np.unique(labels)
    if not np.array_equal(found, [0, 1]):
        raise DataError(
            "labels",
            f"the {labels.size} rows have the labels {found.tolist()}",
            "both 0 and 1, and nothing else",
            "Check data.label and the split.",
        )


def recall_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Returns those of the metrics ``names`` that are the recall at an FPR between 0 and 1."""
    asked = [match for name in names if (match := AT_FPR.fullmatch(name)) and float(match[1]) < 1]
    return tuple(
        Metric(
            match[0],
            f"Recall at {100 * float(match[1]):.10g} % FPR",
            "higher",
            _ranked(partial(recall_at_fpr, float(match[1]))),
            span=1,
        )
        for match in asked
    )


def _ranked(figure: Callable[[Floats, Floats], float]) -> Build:
    """Returns what builds a figure of the ROC curve's points, as numbers of rows."""

    def build(sample: Sample, scores: Predictions) -> Statistic:
        order = np.argsort(scores)[::-1].copy()
        ranked = scores[order]
        positive = sample.labels[order] == 1
        # Tied scores are one step: rows are counted at the last of them.
        last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        # For all draws: the memory of new arrays takes longer than what is computed in them.
        drawn, found = np.empty(len(order)), np.empty(len(order))
        true, false = np.empty(len(last)), np.empty(len(last))

        def statistic(weights: Weights | None) -> float:
            if weights is None:
                positives = np.cumsum(positive)[last].astype(np.float64)
                return figure(positives, last + 1 - positives)
            # Its bounds hold; the other modes of take would copy.
            weights.take(order, out=drawn, mode="clip")
            np.cumsum(np.multiply(drawn, positive, out=found), out=found)
            np.cumsum(drawn, out=drawn)
            found.take(last, out=true, mode="clip")
            drawn.take(last, out=false, mode="clip")
            return figure(true, np.subtract(false, true, out=false))

        return statistic

    return build


METRICS = (
    Metric("auc", "AUC", "higher", _ranked(auc), span=1),
    Metric("gini", "Gini", "higher", _ranked(gini), span=2),
    Metric("ks", "KS", "higher", _ranked(ks), span=1),
    Metric("pr_auc", "PR-AUC", "higher", _ranked(pr_auc), span=1),
    Metric("brier", "Brier score", "lower", brier, span=1),
    Metric("log_loss", "Log loss", "lower", log_loss),
    Metric("ece", "ECE", "lower", ece, span=1),
)
