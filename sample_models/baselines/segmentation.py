"""Recency, frequency and monetary value, all columns, and 16 principal components of them."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch
from sample_models.baselines.found import Found

RFM = ["recency_days", "orders", "spend"]


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields vectors (rows, columns), which the metrics cluster."""
    columns = experiment.data.inputs["profile"].columns
    profile = evaluation.inputs["profile"]
    yield "RFM", profile[:, [columns.index(name) for name in RFM]]
    yield "all columns", profile
    components = PCA(16, random_state=0).fit(training.inputs["profile"])
    yield "principal components", np.asarray(components.transform(profile))
