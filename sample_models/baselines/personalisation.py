"""Popularity, item-to-item cosine and a truncated SVD of which items are ordered together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix, diags
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch
from sample_models.baselines.found import Found

FACTORS = 64
DECAY = 0.7
"""Weight of each line of a history beside the one after it."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields vectors (rows, items or factors) whose cosine ranks the items."""
    items = 1 + max(int(batch.inputs["item"].max()) for batch in (training, evaluation))
    asks = evaluation.inputs["is_customer"][:, 0] > 0
    history, item = evaluation.inputs["history"], evaluation.inputs["item"][:, 0]
    together = _together(training, items)

    sold = np.bincount(training.inputs["item"][:, 0], minlength=items)
    popularity = sold[item] / sold.max()
    found = np.column_stack([popularity, np.sqrt(1 - popularity**2)])
    yield "popularity", np.where(asks[:, None], [1.0, 0.0], found)

    # Cosine between the sets of histories that hold two items (Deshpande and Karypis 2004, "Item-
    # based top-N recommendation algorithms", ACM TOIS 22(1)).
    length = np.sqrt(np.maximum(together.diagonal(), 1.0))
    similar = (diags(1 / length) @ together @ diags(1 / length)).toarray().astype(np.float32)
    np.fill_diagonal(similar, 0.0)
    weights = DECAY ** np.arange(history.shape[1]) * (history > 0)
    vectors = np.zeros((len(item), items), np.float32)
    for step, weight in enumerate(weights.T):
        vectors += weight[:, None].astype(np.float32) * similar[history[:, step]]
    yield (
        "item-to-item cosine",
        np.where(asks[:, None], vectors, np.eye(items, dtype=np.float32)[item]),
    )

    factors = TruncatedSVD(FACTORS, random_state=0).fit(_incidence(training, items)).components_.T
    factors = normalize(factors)
    recent = (weights[:, :, None] * factors[history]).sum(axis=1)
    yield "truncated SVD", np.where(asks[:, None], recent, factors[item])


def _incidence(batch: Batch, items: int) -> csr_matrix:
    """Returns which items are in which history or asked for behind it, (rows, items)."""
    both = np.column_stack([batch.inputs["history"], batch.inputs["item"]])
    row, _ = np.nonzero(both)
    found = csr_matrix((np.ones(len(row), np.float32), (row, both[both > 0])), (len(both), items))
    found.data[:] = 1
    return found


def _together(batch: Batch, items: int) -> csr_matrix:
    """Returns how many histories, with what is asked for, hold two items, (items, items)."""
    incidence = _incidence(batch, items)
    return csr_matrix(incidence.T @ incidence)
