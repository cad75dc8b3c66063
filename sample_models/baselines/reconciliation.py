"""A rule, and logistic regression and boosted trees on hand-made features of both texts."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found

COSINE = 0
"""Column of ``_overlaps``."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields probabilities (rows,); the rule's are half the sum of equal amounts and the cosine.

    Features are those of Köpcke, Thor and Rahm 2010, "Evaluation of entity resolution approaches on
    real-world match problems", VLDB: cosine, Jaccard and containment of tokens, and the numbers.
    """
    names = experiment.data.inputs["numbers"].columns
    rarity = TfidfVectorizer(analyzer=_tokens, sublinear_tf=True).fit(training.inputs["ledger"])
    overlaps = {id(batch): _overlaps(rarity, batch) for batch in (training, evaluation)}
    # Standardized 0 and 1: what is 1 is positive.
    equal = evaluation.inputs["numbers"][:, names.index("exact")] > 0
    yield "rule", (equal + overlaps[id(evaluation)][:, COSINE]) / 2

    def features(batch: Batch) -> Arrays:
        return np.hstack([overlaps[id(batch)], batch.inputs["numbers"]])

    for name, model in (
        (
            "logistic regression",
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        ),
        ("boosted trees", HistGradientBoostingClassifier(learning_rate=0.06, max_leaf_nodes=15)),
    ):
        model.fit(features(training), labels_of(training))
        yield name, model.predict_proba(features(evaluation))[:, 1]


def _overlaps(rarity: TfidfVectorizer, batch: Batch) -> Arrays:
    """Returns cosine, rarest shared token, Jaccard and both containments, (rows, 5)."""
    bank, ledger = (rarity.transform(batch.inputs[name]) for name in ("bank", "ledger"))
    products = bank.multiply(ledger).tocsr()
    shared, one, other = (
        np.diff(matrix.indptr).astype(np.float64) for matrix in (products, bank, ledger)
    )
    return np.column_stack(
        [
            np.asarray(products.sum(axis=1))[:, 0],
            products.max(axis=1).toarray()[:, 0],
            shared / np.maximum(one + other - shared, 1),
            shared / np.maximum(one, 1),
            shared / np.maximum(other, 1),
        ]
    )


def _tokens(row: Arrays) -> list[str]:
    return [str(token) for token in row if token]
