"""How often FP32 and INT8 say the same, whatever is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from qtool.config.evaluation import Evaluation, Retrieval, Segmentation, Trading
from qtool.config.task import IGNORED, Task
from qtool.errors import DataError
from qtool.evaluation.metrics.metric import Floats
from qtool.evaluation.metrics.multiclass import predicted
from qtool.evaluation.metrics.retrieval import roles_of, similarities
from qtool.evaluation.metrics.segmentation import clusters_of
from qtool.evaluation.metrics.trading import positions_of
from qtool.evaluation.results import Agreement
from qtool.evaluation.sample import Sample
from qtool.statistics.proportions import share_lower, share_upper

NEAREST = 10


def agreements(sample: Sample, task: Task, section: Evaluation) -> tuple[Agreement, ...]:
    """Returns the agreements that the task has, with intervals.

    Args:
        sample: the compared rows; at least one.
        task: what the predictions are.
        section: ``evaluation``; its confidence is that of the intervals.
    """
    confidence = section.resampling.confidence
    if task == "multiclass_classification":
        found = [_of_classes(sample, confidence)]
        if section.trading:
            found.append(_of_trades(sample, section.trading, confidence))
        return tuple(found)
    if task == "representation":
        found = [_of_nearest(sample, section.retrieval, confidence)]
        if section.segmentation:
            found.append(_of_clusters(sample, section.segmentation, confidence))
        return tuple(found)
    if task == "sequence_tagging":
        return (_of_tags(sample, confidence),)
    return (_of_tokens(sample, confidence),) if task == "language_model" else ()


def clustered_interval(
    hits: Floats, counts: Floats, confidence: float
) -> tuple[float, float, float]:
    """Returns the share of hits and the ends of its interval, of units that come in clusters.

    It is the exact binomial interval with the effective number of units: as many independent ones
    as give the share the variance that it has between clusters, at most the units; the clusters
    where they do not differ. Clusters of one unit have the interval of Clopper and Pearson.

    Args:
        hits: of each cluster, (clusters,), from 0 to its count.
        counts: units of each cluster, (clusters,), all above 0.
        confidence: of the interval, two-sided.

    Source: Korn and Graubard 1998, "Confidence intervals for proportions with small expected number
    of positive counts estimated from survey data", Survey Methodology 24(2).
    """
    clusters, units = len(counts), counts.sum()
    share = hits.sum() / units
    tail = (1 - confidence) / 2
    residuals = hits - share * counts
    variance = residuals @ residuals / units**2
    effective = float(clusters)
    if variance > 0:
        students = t.ppf(tail, units - 1) / t.ppf(tail, clusters - 1)
        effective = min(units, share * (1 - share) / variance * students**2)
    held = share * effective
    low, high = (bound(held, effective, 1 - tail) for bound in (share_lower, share_upper))
    return float(share), low, high


def _of_classes(sample: Sample, confidence: float) -> Agreement:
    same = predicted(sample.fp32) == predicted(sample.int8)
    return _of_rows("class_agreement", "Same class", same, confidence)


def _of_trades(sample: Sample, section: Trading, confidence: float) -> Agreement:
    same = positions_of(section, sample.fp32) == positions_of(section, sample.int8)
    return _of_rows("trade_agreement", "Same position", same, confidence)


def _of_clusters(sample: Sample, section: Segmentation, confidence: float) -> Agreement:
    find = clusters_of(sample, section)
    same = find(sample.fp32) == find(sample.int8)
    return _of_rows("assignment_agreement", "Same cluster", same, confidence)


def _of_rows(name: str, title: str, same: NDArray[np.bool_], confidence: float) -> Agreement:
    interval = clustered_interval(same.astype(np.float64), np.ones(len(same)), confidence)
    return Agreement(name, title, *interval, "rows", len(same))


def _of_nearest(sample: Sample, section: Retrieval, confidence: float) -> Agreement:
    """The rows at least as near as the tenth, of both models; as many as the larger set has."""
    shared, counts = [], []
    roles = roles_of(sample, section)
    both = (similarities(found, *roles) for found in (sample.fp32, sample.int8))
    for (_, fp32), (_, int8) in zip(*both, strict=True):
        near = [_nearest(similar) for similar in (fp32, int8)]
        shared.append((near[0] & near[1]).sum(axis=1))
        counts.append(np.maximum(near[0].sum(axis=1), near[1].sum(axis=1)))
    hits, found = (np.concatenate(parts).astype(np.float64) for parts in (shared, counts))
    interval = clustered_interval(hits, found, confidence)
    title = f"Same {NEAREST} nearest"
    return Agreement("top_10_overlap", title, *interval, "nearest rows", int(found.sum()))


def _nearest(similar: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns which answers are at least as near as the tenth, (queries, answers)."""
    place = max(0, similar.shape[1] - NEAREST)
    tenth = np.partition(similar, place, axis=1)[:, place, None]
    return np.asarray((similar >= tenth) & (similar > -np.inf))


def _of_tokens(sample: Sample, confidence: float) -> Agreement:
    assert sample.agreeing is not None
    hits = sample.agreeing.astype(np.float64)
    return _in_rows("token_agreement", "Same token", hits, sample.fp32[:, 1], confidence)


def _of_tags(sample: Sample, confidence: float) -> Agreement:
    counted = sample.labels != IGNORED
    same = (sample.fp32 == sample.int8) & counted
    hits, counts = (found.sum(axis=1).astype(np.float64) for found in (same, counted))
    return _in_rows("tag_agreement", "Same tag", hits, counts, confidence)


def _in_rows(name: str, title: str, hits: Floats, counts: Floats, confidence: float) -> Agreement:
    """Returns the agreement of tokens that come in rows, from those of each row."""
    counted = counts > 0
    if not counted.any():
        raise DataError("tokens", "rows without a token to predict", "at least one token")
    interval = clustered_interval(hits[counted], counts[counted], confidence)
    return Agreement(name, title, *interval, "tokens", int(counts.sum()))
