"""What scikit-learn, or a rule of thumb, reaches on the rows and the split of a config.

    python sample_models/baselines.py configs/bank_static.yaml [--set data.source=bank.parquet]

Each baseline is fitted on the training split and judged on the evaluation split by the metrics of
the config, as the models are:

* binary classification: boosted trees and logistic regression on the encoded columns;
* regression of the days that follow ``history``: the last week again, the mean of the last eight
  weeks, and ridge regression, each of a history divided by its mean; their quantiles are those of
  their errors on the training split, by day ahead;
* representation of ``tokens``: TF-IDF, and BM25 between questions and passages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from qtool.commands.scoring import judging_columns, quantile_levels
from qtool.config.experiment import Experiment
from qtool.config.load import load
from qtool.data.batch import Batch, join, labels_of
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.generators.report_questions import FIRST_WORD
from qtool.data.source import open_source
from qtool.data.split import SplitName
from qtool.evaluation.metrics.registry import metrics_of
from qtool.evaluation.sample import Sample
from qtool.progress import SilentProgress

WEEK, WEEKS = 7, 8
SMALLEST_MEAN = 1e-3
"""Of a history, as in ``cash_flow.py``."""

Arrays = NDArray[Any]
Found = Iterator[tuple[str, Arrays]]
"""Name of a baseline, and its predictions of the evaluation rows."""


def binary(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
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
    one_hot.fit(columns(training, wanted=True))

    def indicators(batch: Batch) -> Arrays:
        coded = one_hot.transform(columns(batch, wanted=True))
        return np.hstack([coded, columns(batch, wanted=False)])

    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    logistic.fit(indicators(training), labels_of(training))
    yield "logistic regression", logistic.predict_proba(indicators(evaluation))[:, 1]


def regression(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields quantiles (rows, days * quantiles), day by day."""
    levels = quantile_levels(experiment) or [0.5]
    days = labels_of(training).shape[1]
    known, future = _scaled(training)
    ridge = Ridge(alpha=100.0).fit(known, future)

    def last_week(history: Arrays) -> Arrays:
        return np.tile(history[:, -WEEK:], days // WEEK)

    def last_weeks(history: Arrays) -> Arrays:
        weeks = history[:, -WEEKS * WEEK :].reshape(-1, WEEKS, WEEK)
        return np.tile(weeks.mean(axis=1), days // WEEK)

    for name, forecast in (
        ("last week", last_week),
        ("mean of eight weeks", last_weeks),
        ("ridge regression", ridge.predict),
    ):
        errors = np.quantile(future - forecast(known), levels, axis=0).T
        scaled = forecast(_scaled(evaluation)[0])[:, :, None] + errors
        yield name, (scaled * _level(evaluation)[:, :, None]).reshape(len(evaluation), -1)


def representation(experiment: Experiment, training: Batch, evaluation: Batch) -> Found:
    """Yields vectors (rows, words)."""
    tf_idf = TfidfVectorizer(analyzer=_words, sublinear_tf=True)
    tf_idf.fit(training.inputs["tokens"])
    yield "TF-IDF", tf_idf.transform(evaluation.inputs["tokens"]).toarray()
    asks = evaluation.columns[experiment.evaluation.retrieval.query or ""] > 0
    yield "BM25", _bm25(evaluation.inputs["tokens"], asks)


def _bm25(tokens: Arrays, asks: Arrays) -> Arrays:
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


BASELINES: dict[str, Callable[[Experiment, Batch, Batch], Found]] = {
    "binary_classification": binary,
    "regression": regression,
    "representation": representation,
}


def main() -> None:
    """Prints the metrics of every baseline of a config."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    experiment = load(given.config, given.set).experiment
    section = experiment.evaluation
    data = _dataset(experiment)
    training = _rows(data, "training", ())
    evaluation = _rows(data, "evaluation", judging_columns(experiment))
    metrics = metrics_of(experiment.task, section, quantile_levels(experiment))
    for name, found in BASELINES[experiment.task](experiment, training, evaluation):
        predictions = np.asarray(found, np.float32)
        sample = Sample(
            evaluation.rows, labels_of(evaluation), predictions, predictions, evaluation.columns
        )
        figures = (f"{one.title} {one.build(sample, sample.fp32)(None):.4f}" for one in metrics)
        sys.stdout.write(f"{name}: {', '.join(figures)}\n")


def _dataset(experiment: Experiment) -> Dataset:
    source = open_source(experiment.data.source)
    fitted = fit(source, experiment.data, SilentProgress(), experiment.task)
    return Dataset(source, experiment.data, fitted, experiment.task)


def _rows(data: Dataset, split: SplitName, columns: tuple[str, ...]) -> Batch:
    return join(list(data.batches(split, columns=columns)))


def _level(batch: Batch) -> Arrays:
    level: Arrays = batch.inputs["history"].mean(axis=1, keepdims=True)
    return np.maximum(level, SMALLEST_MEAN)


def _scaled(batch: Batch) -> tuple[Arrays, Arrays]:
    return batch.inputs["history"] / _level(batch), labels_of(batch) / _level(batch)


def _words(tokens: Arrays) -> list[str]:
    return [str(token) for token in tokens if token >= FIRST_WORD]


if __name__ == "__main__":
    main()
