"""Decisions at the operating threshold: where it lies, and what INT8 changes there.

A row is flagged when its score >= threshold. Scores are float32, so the threshold is compared as a
float32 as well: a configured 0.7 and a score that prints as 0.7 are then equal.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from qtool.config.evaluation import Cost, Threshold, ThresholdValue
from qtool.errors import DataError
from qtool.evaluation.metrics.binary import check_labels, check_scores, equal_mass_edges
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.results import BOUND_CONFIDENCE, DecisionChange, MetricChange
from qtool.evaluation.sample import Sample, Statistic
from qtool.numerics.psi import psi as psi_of_counts
from qtool.statistics.clusters import Codes, clustered_mcnemar, effective_rows, sums_of
from qtool.statistics.proportions import mcnemar, share_upper

PSI_BINS = 10


def operating_threshold(
    threshold: Threshold, labels: NDArray[np.int8], fp32_scores: NDArray[np.float32]
) -> tuple[float, str]:
    """Returns the operating threshold and, in words, how it was found.

    Both rates give the smallest FP32 score that flags few enough rows, so ties are resolved
    towards fewer flagged rows:

    * ``approval_rate`` v: at least v of all rows lie strictly below it;
    * ``false_positive_rate`` v: at most v of the negative rows lie at or above it.

    Rates are read as the decimal number that was written, so 0.07 of 100 rows is 7 rows.

    Args:
        threshold: section ``decision.threshold``.
        labels: int8, shape (rows,), of the calibration split; unused for a fixed score.
        fp32_scores: float32 in [0, 1], shape (rows,), of the same rows.

    Raises:
        DataError: no score reaches the rate (too few rows, or ties at the largest score), or a
            class has no row.
    """
    if isinstance(threshold, ThresholdValue):
        return threshold.value, "fixed score"
    check_labels(labels)
    rate = Decimal(str(threshold.value))
    if threshold.at == "approval_rate":
        limited = fp32_scores
        approved = (rate * limited.size).to_integral_value(ROUND_CEILING)
        flagged = limited.size - int(approved)
        what = f"at least {(100 * rate).normalize():f} % of {limited.size:,} rows lie below"
    else:
        limited = fp32_scores[labels == 0]
        flagged = int((rate * limited.size).to_integral_value(ROUND_FLOOR))
        what = f"at most {(100 * rate).normalize():f} % of {limited.size:,} negatives are flagged"
    # With ``flagged`` rows allowed, the next lower one must lie strictly below the threshold.
    last_passed = np.partition(limited, limited.size - flagged - 1)[limited.size - flagged - 1]
    above = fp32_scores[fp32_scores > last_passed]
    if not above.size:
        raise DataError(
            f"decision.threshold at {threshold.at} {threshold.value}",
            f"no FP32 score is above {last_passed}, so no row would ever be flagged",
            "a score that reaches the rate on the calibration split",
            "Use a less extreme rate, more calibration rows, or a fixed score.",
        )
    return float(above.min()), f"{threshold.at}: smallest FP32 score where {what}"


def decision_change(
    sample: Sample,
    threshold: float,
    rule: str,
    cost: MetricChange | None = None,
    clusters: Codes | None = None,
) -> DecisionChange:
    """Returns how the decisions of INT8 differ from those of FP32 at ``threshold``.

    Args:
        sample: the compared rows; at least one.
        threshold: score; a row is flagged at or above it.
        rule: how the threshold was found, in words.
        cost: expected cost per row, if there is a cost matrix.
        clusters: equal for rows that depend on each other, (rows,); None: each stands by itself.

    Raises:
        ModelError: a score is NaN or outside [0, 1].
    """
    check_scores(sample)
    flagged_fp32, flagged_int8 = flagged(sample, threshold)
    to_flagged = int((~flagged_fp32 & flagged_int8).sum())
    to_passed = int((flagged_fp32 & ~flagged_int8).sum())
    right_fp32, right_int8 = (f == (sample.labels == 1) for f in (flagged_fp32, flagged_int8))
    discordant = int((right_fp32 & ~right_int8).sum()), int((right_int8 & ~right_fp32).sum())
    rows, flips = len(sample), flagged_fp32 != flagged_int8
    effective, hits = effective_rows(flips, clusters, BOUND_CONFIDENCE), to_flagged + to_passed
    return DecisionChange(
        threshold=threshold,
        threshold_rule=rule,
        rows=rows,
        flagged_fp32=int(flagged_fp32.sum()),
        flagged_int8=int(flagged_int8.sum()),
        to_flagged=to_flagged,
        to_passed=to_passed,
        flip_share_upper=share_upper(hits * (effective / rows), effective, BOUND_CONFIDENCE),
        largest_score_change=float(np.abs(sample.int8.astype(np.float64) - sample.fp32).max()),
        score_psi=psi(sample.fp32, sample.int8),
        top_rank_correlation=top_rank_correlation(sample.fp32, sample.int8),
        right_fp32_only=discordant[0],
        right_int8_only=discordant[1],
        mcnemar_p=mcnemar(*discordant)
        if clusters is None
        else clustered_mcnemar(sums_of(right_int8.astype(np.int8) - right_fp32, clusters)),
        cost=cost,
        effective_rows=effective,
    )


def flagged(sample: Sample, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns which rows FP32 and INT8 flag."""
    return sample.fp32 >= np.float32(threshold), sample.int8 >= np.float32(threshold)


def cost_metric(costs: Cost, threshold: float) -> Metric:
    """Returns the expected cost of a decision, per row, in the unit of ``costs``."""
    by_outcome = np.array(
        [[costs.true_negative, costs.false_positive], [costs.false_negative, costs.true_positive]]
    )

    def build(sample: Sample, scores: NDArray[np.float32]) -> Statistic:
        paid = by_outcome[sample.labels.astype(int), (scores >= np.float32(threshold)).astype(int)]
        return lambda weights: float(np.average(paid, weights=weights))

    return Metric("expected_cost", "Expected cost per row", "lower", build)


def top_rank_correlation(fp32: NDArray[np.float32], int8: NDArray[np.float32]) -> float:
    """Returns Spearman's correlation in the top decile of FP32; NaN where all scores are equal.

    Source: SciPy ``spearmanr``.
    """
    top = fp32 >= np.partition(fp32, -max(fp32.size // 10, 1))[-max(fp32.size // 10, 1)]
    first, second = fp32[top], int8[top]
    if first.min() == first.max() or second.min() == second.max():
        return float("nan")
    return float(spearmanr(first, second).statistic)


def psi(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Returns the population stability index of ``other`` against ``reference``.

    The bins are the deciles of the reference with equal edges merged (``equal_mass_edges``).
    """
    edges = equal_mass_edges(reference, PSI_BINS)
    p, q = (
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=edges.size + 1)
        for values in (reference, other)
    )
    return psi_of_counts(p, q)
