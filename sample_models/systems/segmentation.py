"""What segments are for: customers that belong together, whose spending can be foreseen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtool.data.batch import Batch
from qtool.evaluation.system import Predict

SEED = 0
"""Of the first centres."""

Array = NDArray[np.float64]


def segments(
    fp32: Predict,
    int8: Predict,
    rows: Batch,
    clusters: int = 6,
    spend: str = "spend_next_90d",
) -> dict[str, tuple[Array, Array]]:
    """Returns two figures of every row, with FP32 and with INT8, each (rows,).

    Centres, and what customers of a segment spend on average, are those of FP32: a new model takes
    the place of another one beneath segments that are in use.

    * ``silhouette``: how much nearer the vectors of the own segment are than those of the next one.
      Source: Rousseeuw 1987, "Silhouettes", Journal of Computational and Applied Mathematics 20.
    * ``spend_error``: squared error of the segment's mean as the forecast of log(1 + spending).

    Args:
        fp32: the model that is replaced.
        int8: the model that replaces it.
        rows: with the column ``spend``.
        clusters: of k-means.
        spend: column with what the customer spends after the profile.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_samples

    known, new = (_vectors(model, rows) for model in (fp32, int8))
    centres = KMeans(clusters, random_state=SEED).fit(known).cluster_centers_
    before, after = nearest(known, centres), nearest(new, centres)
    spent = np.log1p(rows.columns[spend].astype(np.float64))
    mean = np.array([spent[before == segment].mean() for segment in range(clusters)])
    return {
        "silhouette": (silhouette_samples(known, before), silhouette_samples(new, after)),
        "spend_error": ((spent - mean[before]) ** 2, (spent - mean[after]) ** 2),
    }


def nearest(vectors: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the nearest centre of each vector, as scikit-learn's ``KMeans.predict``, (rows,)."""
    # |v - c|² but for |v|², which is the same for all centres.
    away = (centres**2).sum(axis=1) - 2 * vectors @ centres.T
    return np.asarray(away.argmin(axis=1), np.int64)


def _vectors(model: Predict, rows: Batch) -> NDArray[Any]:
    return next(iter(model(rows.inputs).values()))
