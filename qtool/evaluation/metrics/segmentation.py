"""Metrics of clusters of embeddings against labels.

The clusters are those of k-means on the FP32 embeddings of the sample; each row of either model
belongs to the nearest of their centres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from qtool.config.evaluation import Segmentation
from qtool.errors import DataError
from qtool.evaluation.metrics.metric import Build, Floats, Metric, shared
from qtool.evaluation.sample import Predictions, Sample, Statistic, Weights

SEED = 0
"""Of the first centres: both models, and every run, are judged by the same clusters."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows by label and cluster, of the pairs that occur.

    Attributes:
        rows: how many, (pairs,).
        label: of the pair, from 0, (pairs,).
        cluster: of the pair, (pairs,).
    """

    rows: Floats
    label: Integers
    cluster: Integers

    @property
    def of_label(self) -> Floats:
        """Rows of the label of each pair, (pairs,)."""
        return np.asarray(np.bincount(self.label, self.rows)[self.label])

    @property
    def of_cluster(self) -> Floats:
        """Rows of the cluster of each pair, (pairs,)."""
        return np.asarray(np.bincount(self.cluster, self.rows)[self.cluster])


def ari(table: Table) -> float:
    """Returns the adjusted Rand index.

    Source: Hubert and Arabie 1985, "Comparing partitions", Journal of Classification 2(1);
    scikit-learn ``adjusted_rand_score``.
    """
    rows, squares = table.rows.sum(), table.rows @ table.rows
    in_cluster = table.rows @ table.of_cluster - squares
    in_label = table.rows @ table.of_label - squares
    if not in_cluster and not in_label:
        return 1.0
    both = squares - rows
    neither = rows**2 - in_cluster - in_label - squares
    chance = (both + in_label) * (in_label + neither) + (both + in_cluster) * (in_cluster + neither)
    return float(2 * (both * neither - in_label * in_cluster) / chance)


def nmi(table: Table) -> float:
    """Returns the mutual information over the mean of the two entropies.

    Source: scikit-learn ``normalized_mutual_info_score``.
    """
    occurs = table.rows > 0
    rows = table.rows.sum()
    share, of_label, of_cluster = (
        counts[occurs] / rows for counts in (table.rows, table.of_label, table.of_cluster)
    )
    # Summed over pairs, which is the sum over labels and over clusters.
    entropies = -share @ np.log(of_label) - share @ np.log(of_cluster)
    if not entropies:
        return 1.0
    return float(2 * max(0.0, share @ np.log(share / (of_label * of_cluster))) / entropies)


def segmentation_metrics(section: Segmentation) -> tuple[Metric, ...]:
    """Returns the metrics of the clusters of ``section``, which they share."""
    fitted = shared(lambda sample, _: clusters_of(sample, section))

    def of_table(figure: Callable[[Table], float]) -> Build:
        def build(sample: Sample, predictions: Predictions) -> Statistic:
            labels = labels_of(sample)
            clusters = fitted(sample, sample.fp32)(predictions)
            pairs = labels * section.clusters + clusters
            occurring, pair = np.unique(pairs, return_inverse=True)
            label, cluster = np.divmod(occurring, section.clusters)

            def statistic(weights: Weights | None) -> float:
                rows = np.bincount(pair, weights, len(occurring)).astype(np.float64)
                return figure(Table(rows, label, cluster)) if rows.any() else float("nan")

            return statistic

        return build

    return (
        Metric("ari", "Adjusted Rand index", "higher", of_table(ari), span=1.5),
        Metric("nmi", "NMI", "higher", of_table(nmi), span=1),
    )


def labels_of(sample: Sample) -> Integers:
    """Returns the labels, numbered from 0, (rows,).

    Raises:
        DataError: rows have none.
    """
    if sample.labels.ndim != 1:
        raise DataError("labels", "none", "a label, for metrics of clusters", "Set data.label.")
    return np.unique(sample.labels, return_inverse=True)[1].astype(np.int64)


def clusters_of(sample: Sample, section: Segmentation) -> Callable[[Predictions], Integers]:
    """Returns what finds the cluster of each row in the predictions of a model, (rows,).

    Raises:
        DataError: there are fewer rows than clusters.
    """
    if len(sample) < section.clusters:
        found = f"{section.clusters} clusters of {len(sample)} rows"
        raise DataError("evaluation.segmentation.clusters", found, "fewer clusters than rows")
    fitted = KMeans(section.clusters, random_state=SEED).fit(sample.fp32)
    return lambda predictions: np.asarray(fitted.predict(predictions), np.int64)
