from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from qtool.errors import StaleArtifactError
from qtool.history import EpochRecord, History
from qtool.training.metrics import accuracy, ranking_auc, rmse


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


def test_accuracy_and_rmse_by_hand():
    logits = np.array([[1, 2], [3, 0], [0, 1]], np.float32)
    assert accuracy(np.array([1, 0, 0]), logits) == pytest.approx(2 / 3)
    predictions = np.array([[1.0], [4.0]], np.float32)
    assert rmse(np.array([1.0, 1.0], np.float32), predictions) == pytest.approx(4.5**0.5)


EPOCHS = (
    EpochRecord(0, None, 0.7, None),
    EpochRecord(1, 0.5, 0.4, 0.8, 0.01),
    EpochRecord(2, 0.4, 0.4, 0.9, 0.005),
    EpochRecord(3, 0.4, 0.5, 0.9, 0.0),
)
HISTORY = History("train QAT", "auc", True, 0.39, 0.91, "loss", EPOCHS)


@pytest.mark.parametrize(
    ("keep", "higher", "best"), [("loss", True, 1), ("metric", True, 2), ("metric", False, 1)]
)
def test_the_first_of_the_best_epochs_is_kept(keep, higher, best):
    history = replace(HISTORY, keep=keep, higher_is_better=higher)
    assert history.best.epoch == best
    assert json.loads(history.to_json())["best_epoch"] == best


def test_a_history_is_read_back():
    assert History.from_json(HISTORY.to_json(), "history.json") == HISTORY


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"best_epoch": 1, "epochs": [{}]}'])
def test_what_is_no_history_is_refused(text):
    with pytest.raises(StaleArtifactError, match=r"history\.json: not a training history"):
        History.from_json(text, "history.json")
