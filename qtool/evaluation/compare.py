"""Each metric on FP32 and on INT8, and how sure their difference is: on the same rows, paired.

The differences of two AUCs, of two KS and of two accuracies have closed forms; that of every other
metric is resampled: rows are drawn again with both models' predictions, within the classes, or in
blocks or clusters where rows depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np

from qtool.config.evaluation import Resampling
from qtool.config.task import Task
from qtool.evaluation.metrics.metric import Metric
from qtool.evaluation.results import BOUND_CONFIDENCE, MetricChange
from qtool.evaluation.sample import Sample
from qtool.statistics.average_precision import average_precision_influence
from qtool.statistics.bootstrap import (
    Codes,
    Draws,
    bootstrap_bounds,
    bootstrap_interval,
    paired_bootstrap,
    pairs_once_interval,
    subset,
)
from qtool.statistics.delong import delong
from qtool.statistics.interval import Interval, two_sided
from qtool.statistics.ks import ks_change
from qtool.statistics.proportions import paired_shares, share_upper

CLUSTERS, BLOCKS, STRATA, ROWS = (
    "paired bootstrap of clusters",
    "paired bootstrap of blocks of {} rows",
    "paired bootstrap within classes",
    "paired bootstrap",
)
PAIRS_ONCE = "{}, pairs of rows counted once"


@dataclass(frozen=True)
class Pairing:
    """How the rows of a sample depend on each other.

    Attributes:
        section: resamples, confidence, blocks and clusters.
        task: rows of a binary classification are drawn within their class.
        by_time: rows are in the order of time.
        seed: of the draws.
    """

    section: Resampling
    task: Task
    by_time: bool
    seed: int

    def block(self, rows: int) -> int:
        """Returns how many consecutive rows are drawn together."""
        if self.section.block is not None:
            return self.section.block
        # Politis and White 2004, Econometric Reviews 23(1): the best length grows with the cube
        # root.
        together = self.by_time and self.section.cluster is None
        return max(1, round(rows ** (1 / 3))) if together else 1

    def independent(self, rows: int) -> bool:
        """Returns whether every row is drawn by itself."""
        return self.section.cluster is None and self.block(rows) == 1

    def units(self, sample: Sample) -> Codes | None:
        """Returns which rows depend on each other, int (rows,): those with the same number.

        Clusters, or blocks that follow each other; None where every row stands by itself.
        """
        if self.section.cluster is not None:
            return np.unique(sample.columns[self.section.cluster], return_inverse=True)[1]
        block = self.block(len(sample))
        return None if block == 1 else np.arange(len(sample)) // block

    def draws(self, sample: Sample) -> Draws:
        """Returns how the rows of a sample are drawn."""
        strata = clusters = None
        if self.section.cluster is not None:
            clusters = self.units(sample)
        elif self.independent(len(sample)) and self.task == "binary_classification":
            strata = sample.labels
        block = self.block(len(sample))
        return Draws(len(sample), strata, clusters, block, self.section.resamples, self.seed)

    def words(self, rows: int) -> str:
        """Returns how intervals are computed."""
        if self.section.cluster is not None:
            return CLUSTERS
        if self.block(rows) > 1:
            return BLOCKS.format(self.block(rows))
        return STRATA if self.task == "binary_classification" else ROWS


class Doubt(NamedTuple):
    """How sure a difference is.

    Attributes:
        interval: two-sided, at the confidence of the config.
        bounds: one-sided, at ``BOUND_CONFIDENCE``.
    """

    interval: Interval
    bounds: Interval


Closed = Callable[[Sample, float], tuple[float, float, Doubt] | None]
"""(sample, confidence) → FP32, INT8, and how sure their difference is; None where the form does not
hold."""


def compare(
    sample: Sample, metrics: Sequence[Metric], pairing: Pairing
) -> tuple[MetricChange, ...]:
    """Returns each metric on FP32 and INT8 with the interval of its change.

    Args:
        sample: rows; of time series in their order.
        metrics: what is compared.
        pairing: how rows depend on each other.

    Raises:
        DataError: the labels are none that a metric reads.
        ModelError: nor are the predictions.
    """
    found: dict[str, MetricChange] = {}
    if pairing.independent(len(sample)):
        for metric in metrics:
            change = _by_formula(sample, metric, pairing.section)
            if change is not None:
                found[metric.name] = change
    found |= _resampled(sample, [m for m in metrics if m.name not in found], pairing)
    return tuple(found[metric.name] for metric in metrics)


def compare_part(sample: Sample, metric: Metric, pairing: Pairing) -> MetricChange:
    """Returns the change of a metric on some of the rows; NaN where they have one class only."""
    if pairing.task == "binary_classification" and np.unique(sample.labels).size < 2:
        undefined = Interval(math.nan, math.nan, math.nan, math.nan)
        doubt, words = Doubt(undefined, undefined), pairing.words(len(sample))
        return _change(metric, math.nan, math.nan, doubt, pairing.section, words, len(sample))
    return compare(sample, (metric,), pairing)[0]


def _resampled(
    sample: Sample, metrics: Sequence[Metric], pairing: Pairing
) -> dict[str, MetricChange]:
    if not metrics:
        return {}
    draws = pairing.draws(sample)
    chosen, scale = subset(draws)
    part = sample if chosen is None else sample.take(chosen)
    if chosen is not None:
        draws = pairing.draws(part)
    pairs = {
        metric.name: (metric.build(part, part.fp32), metric.build(part, part.int8))
        for metric in metrics
    }
    drawn = paired_bootstrap(pairs, draws)
    found = {}
    for metric in metrics:
        fp32, int8 = (statistic(None) for statistic in pairs[metric.name])
        of_part = int8 - fp32
        if chosen is not None:
            fp32 = metric.build(sample, sample.fp32)(None)
            int8 = metric.build(sample, sample.int8)(None)
        differences, words = drawn[metric.name], pairing.words(len(part))
        confidence = pairing.section.confidence
        doubt = Doubt(
            *(
                function(
                    int8 - fp32,
                    differences,
                    level,
                    units=draws.smallest(),
                    subset_estimate=of_part,
                    scale=scale,
                )
                for function, level in (
                    (bootstrap_interval, confidence),
                    (bootstrap_bounds, BOUND_CONFIDENCE),
                )
            )
        )
        if np.ptp(differences) == 0 and draws.smallest() > 1:
            span = abs(fp32) if metric.span is None else metric.span
            doubt = _no_change(int8 - fp32, span, draws.smallest(), confidence)
        elif metric.name in INFLUENCES and draws.strata is not None and draws.smallest() > 1:
            influence = INFLUENCES[metric.name]
            pulls = influence(part.labels, part.int8) - influence(part.labels, part.fp32)
            interval = pairs_once_interval(
                int8 - fp32, differences, pulls, draws.strata, confidence, scale
            )
            doubt, words = doubt._replace(interval=interval), PAIRS_ONCE.format(words)
        found[metric.name] = _change(metric, fp32, int8, doubt, pairing.section, words, len(sample))
    return found


def _by_formula(sample: Sample, metric: Metric, section: Resampling) -> MetricChange | None:
    closed = CLOSED.get(metric.name)
    found = None if closed is None else closed(sample, section.confidence)
    if found is None:
        return None
    return _change(metric, *found, section, WORDS[metric.name], len(sample))


def _change(
    metric: Metric,
    fp32: float,
    int8: float,
    doubt: Doubt,
    section: Resampling,
    words: str,
    rows: int,
) -> MetricChange:
    interval, bounds = doubt
    return MetricChange(
        metric.name,
        metric.title,
        metric.better,
        fp32,
        int8,
        interval.low,
        interval.high,
        interval.error,
        section.confidence,
        words,
        rows,
        bounds.low,
        bounds.high,
    )


def _auc(sample: Sample, confidence: float) -> tuple[float, float, Doubt]:
    found = delong(sample.labels, sample.fp32, sample.int8)
    if found.variance == 0:
        doubt = _no_change(found.difference, 1.0, _scarce(sample), confidence)
    else:
        doubt = Doubt(found.interval(confidence), found.bounds(BOUND_CONFIDENCE))
    return found.first, found.second, doubt


def _ks(sample: Sample, confidence: float) -> tuple[float, float, Doubt] | None:
    found = ks_change(sample.labels, sample.fp32, sample.int8)
    if found.variance > 0:
        # Two-sided at that confidence, so on the side of doubt: with few positives the variance is
        # smallest where the difference looks best, as that of DeLong.
        doubt = Doubt(found.interval(confidence), found.interval(BOUND_CONFIDENCE))
    elif found.variance == 0 and found.difference == 0:
        doubt = _no_change(0.0, 1.0, _scarce(sample), confidence)
    else:
        return None
    return found.first, found.second, doubt


def _scarce(sample: Sample) -> int:
    """Returns the rows of the scarcer class."""
    positives = int((sample.labels == 1).sum())
    return min(positives, len(sample) - positives)


def _no_change(estimate: float, span: float, units: int, confidence: float) -> Doubt:
    """Returns how sure a change is that does not depend on which of the units are drawn.

    As many of all may still move it as the exact bound of 0 of ``units`` allows, each by its part
    of ``span``. For a metric without a limit that is its value, as if the error of those that move
    vanished or doubled.
    """

    def within(one_sided: float) -> Interval:
        most = span * share_upper(0, units, one_sided)
        return Interval(estimate, estimate - most, estimate + most, most)

    return Doubt(within((1 + confidence) / 2), within(BOUND_CONFIDENCE))


def _gini(sample: Sample, confidence: float) -> tuple[float, float, Doubt]:
    fp32, int8, doubt = _auc(sample, confidence)
    interval, bounds = (Interval(*(2 * end for end in astuple(found))) for found in doubt)
    return 2 * fp32 - 1, 2 * int8 - 1, Doubt(interval, bounds)


def _accuracy(sample: Sample, confidence: float) -> tuple[float, float, Doubt]:
    fp32, int8 = (
        predictions.argmax(axis=1) == sample.labels for predictions in (sample.fp32, sample.int8)
    )
    changed = int((fp32 & ~int8).sum()), int((int8 & ~fp32).sum()), len(sample)
    doubt = Doubt(
        paired_shares(*changed, confidence), paired_shares(*changed, two_sided(BOUND_CONFIDENCE))
    )
    return float(fp32.mean()), float(int8.mean()), doubt


CLOSED: dict[str, Closed] = {"auc": _auc, "gini": _gini, "ks": _ks, "accuracy": _accuracy}
"""Metrics whose difference has an interval without resampling, where rows are independent."""
WORDS = {
    "auc": "DeLong",
    "gini": "DeLong",
    "ks": "thresholds near the largest distance",
    "accuracy": "Tango",
}
INFLUENCES = {"pr_auc": average_precision_influence}
"""Of metrics whose difference consists of pairs of rows: (labels, scores) → the derivative by the
weight of each row."""
