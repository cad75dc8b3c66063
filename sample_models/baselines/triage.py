"""Logistic regression on TF-IDF of words, and a linear support vector machine on n-grams'."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from qtool.config.experiment import Experiment
from qtool.data.batch import Batch, labels_of
from sample_models.baselines.found import Arrays, Found

STEEPNESS = 4.0
"""Of probabilities made of the margins of a support vector machine."""


def baselines(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields probabilities (rows, classes)."""
    labels = labels_of(training)
    words, ngrams = (
        TfidfVectorizer(analyzer=_numbers, sublinear_tf=True).fit(training.inputs[name])
        for name in ("words", "ngrams")
    )
    logistic = LogisticRegression(C=10, max_iter=200)
    logistic.fit(words.transform(training.inputs["words"]), labels)
    found = logistic.predict_proba(words.transform(evaluation.inputs["words"]))
    yield "logistic regression, words", found
    machine = LinearSVC(C=0.5).fit(ngrams.transform(training.inputs["ngrams"]), labels)
    margins = machine.decision_function(ngrams.transform(evaluation.inputs["ngrams"]))
    yield "linear SVM, n-grams", softmax(STEEPNESS * np.asarray(margins), axis=1)


def _numbers(row: Arrays) -> list[str]:
    return [str(number) for number in row if number]
