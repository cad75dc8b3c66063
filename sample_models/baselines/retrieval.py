"""TF-IDF, and BM25 between questions and passages."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch
from qtool.data.generators.report_questions import FIRST_WORD
from sample_models.baselines.found import Arrays, Found


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields vectors (rows, words)."""
    tf_idf = TfidfVectorizer(analyzer=_words, sublinear_tf=True)
    tf_idf.fit(training.inputs["tokens"])
    yield "TF-IDF", tf_idf.transform(evaluation.inputs["tokens"]).toarray()
    asks = evaluation.columns[experiment.evaluation.retrieval.query or ""] > 0
    yield "BM25", bm25(evaluation.inputs["tokens"], asks)


def bm25(tokens: Arrays, asks: Arrays) -> Arrays:
    """Returns vectors whose cosine ranks the passages of each question by BM25.

    Source: Robertson and Zaragoza 2009, "The probabilistic relevance framework: BM25 and beyond",
    equation 3.15, k1 = 1.2, b = 0.75; lengths are made equal by one more number, as in Bachrach et
    al. 2014, "Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces", equation 4.
    """
    counts = CountVectorizer(analyzer=_words).fit_transform(tokens).toarray().astype(np.float64)
    passages = counts[~asks]
    found = (passages > 0).sum(axis=0)
    rarity = np.log1p((len(passages) - found + 0.5) / (found + 0.5))
    length = counts.sum(axis=1, keepdims=True)
    saturation = 1.2 * (0.25 + 0.75 * length / passages.sum(axis=1).mean())
    vectors = np.where(asks[:, None], counts > 0, rarity * counts / (counts + saturation))
    square = (vectors**2).sum(axis=1)
    missing = np.where(asks, 0.0, np.sqrt(square[~asks].max() - np.where(asks, 0.0, square)))
    return np.column_stack([vectors, missing])


def _words(tokens: Arrays) -> list[str]:
    return [str(token) for token in tokens if token >= FIRST_WORD]
