from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from qtool.training.history import EpochRecord, History, ranking_auc


def test_auc_by_hand():
    """Pairs: 0.9 > 0.5, 0.9 > 0.1, 0.5 = 0.5 counts half, 0.5 > 0.1: 3.5 / 4."""
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.5, 0.5, 0.1], np.float32)
    assert ranking_auc(labels, scores) == 3.5 / 4


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40))
def test_auc_equals_scikit_learn(pairs):
    labels = np.array([label for label, _ in pairs], np.int8)
    scores = np.array([score for _, score in pairs], np.float32)
    if labels.min() == labels.max():
        assert ranking_auc(labels, scores) is None
    else:
        assert ranking_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_the_first_of_the_best_epochs_is_kept():
    epochs = (
        EpochRecord(0, None, 0.7, None),
        EpochRecord(1, 0.5, 0.4, 0.8),
        EpochRecord(2, 0.4, 0.4, 0.9),
    )
    history = History(epochs)
    assert history.best.epoch == 1
    written = json.loads(history.to_json())
    assert written["best_epoch"] == 1
    assert written["epochs"][0]["train_loss"] is None
