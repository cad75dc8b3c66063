"""Boosted trees and logistic regression on the encoded columns."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields probabilities (rows,)."""
    codes = {name for name, part in experiment.data.inputs.items() if part.kind == "categorical"}

    def columns(batch: Batch, wanted: bool) -> Arrays:
        parts = [array for name, array in batch.inputs.items() if (name in codes) == wanted]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(batch), 0))

    def all_columns(batch: Batch) -> Arrays:
        return np.hstack([columns(batch, wanted=True), columns(batch, wanted=False)])

    categorical = range(columns(training, wanted=True).shape[1])
    trees = HistGradientBoostingClassifier(
        learning_rate=0.06, max_leaf_nodes=15, categorical_features=list(categorical)
    )
    trees.fit(all_columns(training), labels_of(training))
    yield "boosted trees", trees.predict_proba(all_columns(evaluation))[:, 1]

    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    if categorical:
        one_hot.fit(columns(training, wanted=True))

    def indicators(batch: Batch) -> Arrays:
        numbers = columns(batch, wanted=False)
        return (
            np.hstack([one_hot.transform(columns(batch, wanted=True)), numbers])
            if categorical
            else numbers
        )

    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    logistic.fit(indicators(training), labels_of(training))
    yield "logistic regression", logistic.predict_proba(indicators(evaluation))[:, 1]
