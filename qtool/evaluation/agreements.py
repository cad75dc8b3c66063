"""How often FP32 and INT8 say the same, whatever is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from qtool.statistics.clusters import Codes, effective_units, sums_of
from qtool.statistics.proportions import share_lower, share_upper

NEAREST = 10


def agreements(
    sample: Sample, task: Task, section: Evaluation, clusters: Codes | None = None
) -> tuple[Agreement, ...]:
    """Returns the agreements that the task has, with intervals.

    Args:
        sample: the compared rows; at least one.
        task: what the predictions are.
        section: ``evaluation``; its confidence is that of the intervals.
        clusters: equal for rows that depend on each other, (rows,); None: each stands by itself.
    """
    confidence = section.resampling.confidence

    def of_rows(name: str, title: str, same: NDArray[np.bool_]) -> Agreement:
        found = _Counts(np.arange(len(same)), same.astype(np.float64), np.ones(len(same)))
        return _agreement(name, title, found, "rows", clusters, confidence)

    if task == "multiclass_classification":
        classes = predicted(sample.fp32) == predicted(sample.int8)
        found = [of_rows("class_agreement", "Same class", classes)]
        if section.trading:
            trades = _same_positions(sample, section.trading)
            found.append(of_rows("trade_agreement", "Same position", trades))
        return tuple(found)
    if task == "representation":
        nearest = _nearest_rows(sample, section.retrieval)
        title = f"Same {NEAREST} nearest"
        found = [_agreement("top_10_overlap", title, nearest, "nearest rows", clusters, confidence)]
        if section.segmentation:
            same = _same_clusters(sample, section.segmentation)
            found.append(of_rows("assignment_agreement", "Same cluster", same))
        return tuple(found)
    if task == "sequence_tagging":
        tags = _tags(sample)
        return (_agreement("tag_agreement", "Same tag", tags, "tokens", clusters, confidence),)
    if task == "language_model":
        tokens = _tokens(sample)
        return (
            _agreement("token_agreement", "Same token", tokens, "tokens", clusters, confidence),
        )
    return ()


def clustered_interval(
    hits: Floats, counts: Floats, confidence: float
) -> tuple[float, float, float]:
    """Returns the share of hits and the ends of its interval, of units that come in clusters.

    It is the exact binomial interval of ``effective_units``. Clusters of one unit have the interval
    of Clopper and Pearson.

    Args:
        hits: of each cluster, (clusters,), from 0 to its count.
        counts: units of each cluster, (clusters,), all above 0.
        confidence: of the interval, two-sided.
    """
    share, one_sided = hits.sum() / counts.sum(), (1 + confidence) / 2
    effective = effective_units(hits, counts, share * (1 - share), one_sided)
    held = share * effective
    low, high = (bound(held, effective, one_sided) for bound in (share_lower, share_upper))
    return float(share), low, high


@dataclass(frozen=True, eq=False)
class _Counts:
    """On what both models agree.

    Attributes:
        rows: positions in the sample, (n,).
        hits: units of each row on which they agree, (n,).
        counts: units of each row, (n,).
    """

    rows: Codes
    hits: Floats
    counts: Floats


def _agreement(
    name: str, title: str, found: _Counts, units: str, clusters: Codes | None, confidence: float
) -> Agreement:
    counted = found.counts > 0
    if not counted.any():
        missing = f"rows without a {units.removesuffix('s')} to compare"
        raise DataError(units, missing, "at least one")
    hits, counts = found.hits[counted], found.counts[counted]
    if clusters is not None:
        together = clusters[found.rows[counted]]
        hits, counts = sums_of(hits, together), sums_of(counts, together)
    interval = clustered_interval(hits, counts, confidence)
    return Agreement(name, title, *interval, units, int(counts.sum()))


def _same_positions(sample: Sample, section: Trading) -> NDArray[np.bool_]:
    return np.asarray(positions_of(section, sample.fp32) == positions_of(section, sample.int8))


def _same_clusters(sample: Sample, section: Segmentation) -> NDArray[np.bool_]:
    find = clusters_of(sample, section)
    return np.asarray(find(sample.fp32) == find(sample.int8))


def _nearest_rows(sample: Sample, section: Retrieval) -> _Counts:
    """The rows at least as near as the tenth, of both models; as many as the larger set has."""
    queries, shared, counts = [], [], []
    roles = roles_of(sample, section)
    both = (similarities(found, *roles) for found in (sample.fp32, sample.int8))
    for (rows, fp32), (_, int8) in zip(*both, strict=True):
        near = [_nearest(similar) for similar in (fp32, int8)]
        queries.append(rows)
        shared.append((near[0] & near[1]).sum(axis=1))
        counts.append(np.maximum(near[0].sum(axis=1), near[1].sum(axis=1)))
    hits, found = (np.concatenate(parts).astype(np.float64) for parts in (shared, counts))
    return _Counts(np.concatenate(queries), hits, found)


def _nearest(similar: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns which answers are at least as near as the tenth, (queries, answers)."""
    place = max(0, similar.shape[1] - NEAREST)
    tenth = np.partition(similar, place, axis=1)[:, place, None]
    return np.asarray((similar >= tenth) & (similar > -np.inf))


def _tokens(sample: Sample) -> _Counts:
    assert sample.agreeing is not None
    hits = sample.agreeing.astype(np.float64)
    return _Counts(np.arange(len(sample)), hits, sample.fp32[:, 1])


def _tags(sample: Sample) -> _Counts:
    counted = sample.labels != IGNORED
    same = (sample.fp32 == sample.int8) & counted
    hits, counts = (found.sum(axis=1).astype(np.float64) for found in (same, counted))
    return _Counts(np.arange(len(sample)), hits, counts)
