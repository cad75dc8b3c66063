"""The filter of a Gaussian hidden Markov model (hmmlearn), logistic regression, boosted trees.

The hidden Markov model sees no label: its regimes are ordered by the range, as those of the labels.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found
from sample_models.prepare.regimes import gaussian_hmm

SEQUENCES = 1_000
"""Training windows that the hidden Markov model is fitted to."""
RECENT = 10
"""Days that the regression sees."""
SPANS = (3, 5, 10, 20, 40, 64)
"""Days over which the trees see mean and deviation of the features, beside the last three days."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields probabilities of the regimes (rows, regimes)."""
    windows = evaluation.inputs["window"].astype(np.float64)
    every = -(-len(training) // SEQUENCES)
    model = gaussian_hmm(list(training.inputs["window"][::every].astype(np.float64)))
    # On the last day of a sequence the smoothed probability is the filtered one.
    probability = np.stack([model.predict_proba(window)[-1] for window in windows])
    yield "Gaussian hidden Markov model", probability

    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    logistic.fit(_recent(training), labels_of(training))
    yield "logistic regression", logistic.predict_proba(_recent(evaluation))

    trees = HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=15, max_iter=150)
    trees.fit(_summaries(training), labels_of(training))
    yield "boosted trees", trees.predict_proba(_summaries(evaluation))


def _recent(batch: Batch) -> Arrays:
    return batch.inputs["window"][:, -RECENT:].reshape(len(batch), -1)


def _summaries(batch: Batch) -> Arrays:
    window = batch.inputs["window"]
    parts = [window[:, -3:].reshape(len(batch), -1)]
    for days in SPANS:
        parts += [window[:, -days:].mean(axis=1), window[:, -days:].std(axis=1)]
    return np.concatenate(parts, axis=1)
