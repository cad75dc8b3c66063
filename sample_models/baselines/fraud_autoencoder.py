"""An isolation forest and the Mahalanobis distance from legitimate rows; boosted trees with labels.

What labels add says how much of the fraud is no anomaly.
"""

from __future__ import annotations

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields scores (rows,) from 0 to 1."""
    rows, judged = training.inputs["numeric"], evaluation.inputs["numeric"]
    labels = labels_of(training)
    legitimate = rows[labels == 0]
    forest = IsolationForest(n_estimators=200, random_state=0).fit(legitimate)
    yield "isolation forest", _ranks(-forest.score_samples(judged))
    distance = EmpiricalCovariance().fit(legitimate).mahalanobis(judged)
    yield "Mahalanobis distance", _ranks(distance)
    trees = HistGradientBoostingClassifier(learning_rate=0.06, max_leaf_nodes=15)
    yield "boosted trees", trees.fit(rows, labels).predict_proba(judged)[:, 1]


def _ranks(scores: Arrays) -> Arrays:
    """Returns the scores' order as shares of the rows: metrics read probabilities."""
    return np.argsort(np.argsort(scores)) / len(scores)
