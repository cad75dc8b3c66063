"""Logistic regression and boosted trees on the last snapshot, and the usual sign of imbalance."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found

DEPTHS = (1, 3, 5, 10)
"""Best levels whose imbalance is a feature."""
MOVES = (10, 30, 99)
"""Steps back from the last, whose book says where the price came from."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields probabilities (rows, 3) of down, flat and up."""
    known, wanted = features(training), features(evaluation)
    labels = labels_of(training)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    trees = HistGradientBoostingClassifier(
        learning_rate=0.03, max_iter=100, max_leaf_nodes=7, min_samples_leaf=50
    )
    imbalance = slice(0, len(DEPTHS))
    linear.fit(known[:, imbalance], labels)
    yield "logistic regression, imbalances", linear.predict_proba(wanted[:, imbalance])
    linear.fit(known, labels)
    yield "logistic regression", linear.predict_proba(wanted)
    trees.fit(known, labels)
    yield "boosted trees", trees.predict_proba(wanted)


def features(batch: Batch) -> Arrays:
    """Returns imbalances of the last step, its levels, and earlier prices, (rows, features)."""
    book = batch.inputs["book"]
    last = book[:, -1].reshape(len(book), -1, 4)
    sums = [last[:, :depth].sum(axis=1) for depth in DEPTHS]
    imbalances = np.stack([one[:, 3] - one[:, 1] for one in sums], axis=1)
    before = [book[:, -1 - steps, :4] for steps in MOVES]
    return np.hstack([imbalances, book[:, -1, :20], *before])
