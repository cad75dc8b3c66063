"""Metrics of language models.

Predictions are float64 (rows, 2): the sum of the negative log-likelihoods, nats, of the predicted
tokens of a row, and how many they are.
"""

from __future__ import annotations

import numpy as np

from qtool.evaluation.metrics.metric import Metric, of_sums, ratio
from qtool.evaluation.sample import Predictions, Sample, Statistic


def perplexity(sample: Sample, predictions: Predictions) -> Statistic:
    """Returns the statistic exp(mean negative log-likelihood of the tokens).

    Source: Jelinek et al. 1977, "Perplexity - a measure of the difficulty of speech recognition
    tasks".
    """

    def figure(loss: float, tokens: float) -> float:
        with np.errstate(over="ignore"):  # infinite is what it is
            return float(np.exp(ratio(loss, tokens)))

    return of_sums(figure, *predictions.T)


METRICS = (Metric("perplexity", "Perplexity", "lower", perplexity),)
