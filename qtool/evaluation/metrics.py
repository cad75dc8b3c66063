"""Metrics of binary scores: one function per name of the configuration, and their change.

Labels are int8, 0 or 1; scores are float32 probabilities in [0, 1]; both have shape (rows,). Every
metric is computed in float64; the order of the rows matters only to its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from qtool.config.evaluation import Metric
from qtool.errors import DataError, ModelError
from qtool.evaluation.results import MetricChange, Scores

Labels = NDArray[np.int8]
Values = NDArray[np.float32]

ECE_BINS = 15  # Naeini et al. 2015 and Guo et al. 2017 (arXiv 1706.04599) report ECE with 15 bins.


def auc(labels: Labels, scores: Values) -> float:
    """Returns the area under the ROC curve; a tied pair counts one half.

    Source: scikit-learn ``roc_auc_score``.
    """
    return float(roc_auc_score(labels, scores))


def gini(labels: Labels, scores: Values) -> float:
    """Returns 2 * AUC - 1, the accuracy ratio of credit scoring.

    Source: Engelmann, Hayden, Tasche 2003, "Testing rating accuracy", Risk 16(1).
    """
    return 2 * auc(labels, scores) - 1


def ks(labels: Labels, scores: Values) -> float:
    """Returns the largest distance between the score distributions of the two classes.

    It is max |TPR - FPR| over all thresholds: two-sided, so a model that ranks backwards shows
    a distance too.

    Source: two-sample Kolmogorov-Smirnov statistic; equals SciPy ``ks_2samp(...).statistic``.
    """
    fpr, tpr = roc_points(labels, scores)
    return float(np.abs(tpr - fpr).max())


def pr_auc(labels: Labels, scores: Values) -> float:
    """Returns average precision, the step-wise area under the precision-recall curve.

    Source: scikit-learn ``average_precision_score``.
    """
    return float(average_precision_score(labels, scores))


def brier(labels: Labels, scores: Values) -> float:
    """Returns the mean squared difference of score and label; lower is better.

    Source: scikit-learn ``brier_score_loss``.
    """
    return float(brier_score_loss(labels, scores.astype(np.float64)))


def ece(labels: Labels, scores: Values) -> float:
    """Returns the expected calibration error over at most 15 bins of equal mass; lower is better.

    The bins are those of ``equal_mass_edges``, so tied scores share a bin. With n rows the error is
    the sum over the bins of |number of positives - sum of scores| / n, which is the mean over rows
    of |observed rate - mean score| of the row's bin.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning"
    (definition); Nixon et al. 2019, arXiv 1904.01685 (bins of equal mass).
    """
    bins = np.searchsorted(equal_mass_edges(scores, ECE_BINS), scores, side="right")
    gaps = np.bincount(bins, weights=labels.astype(np.float64) - scores.astype(np.float64))
    return float(np.abs(gaps).sum() / len(scores))


METRICS: dict[Metric, Callable[[Labels, Values], float]] = {
    "auc": auc,
    "gini": gini,
    "ks": ks,
    "pr_auc": pr_auc,
    "brier": brier,
    "ece": ece,
}


def compare(scores: Scores, names: Sequence[Metric]) -> tuple[MetricChange, ...]:
    """Returns each named metric on the FP32 and on the INT8 scores, in the order of ``names``.

    Raises:
        DataError: a label is not 0 or 1, or one class has no row.
        ModelError: a score is NaN or outside [0, 1].
    """
    check_scores(scores)
    check_labels(scores.labels)
    return tuple(
        MetricChange(
            name,
            METRICS[name](scores.labels, scores.fp32),
            METRICS[name](scores.labels, scores.int8),
        )
        for name in names
    )


def roc_points(labels: Labels, scores: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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


def check_scores(scores: Scores) -> None:
    """Checks that every FP32 and INT8 score is a probability.

    Raises:
        ModelError: a score is NaN or outside [0, 1]; the text names the first row.
    """
    for model, values in (("FP32", scores.fp32), ("INT8", scores.int8)):
        # A NaN fails both comparisons, so it is counted here too.
        wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if wrong.size:
            raise ModelError(
                f"scores of the {model} model",
                f"{wrong.size} of {values.size} scores are not probabilities, the first is "
                f"{values[wrong[0]]} at row {scores.rows[wrong[0]]}",
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
