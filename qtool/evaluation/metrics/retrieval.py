"""Metrics of embeddings that are searched by cosine similarity.

Labels are int64 (rows,), equal for rows that belong together; predictions are float32
(rows, dimensions). Queries ask the rows that answer: each all others, or those with the column
``evaluation.retrieval.query`` true those where it is false. Answers with the label of the query are
relevant. Every metric is a mean over the queries that have a relevant answer; draws of the
bootstrap draw queries and leave the answers as they are.

A rank counts from 1. An answer that is not relevant is put before relevant ones just as near.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtool.config.evaluation import Retrieval
from qtool.errors import DataError
from qtool.evaluation.metrics.metric import Floats, Metric, mean_where, numbers_of, shared
from qtool.evaluation.sample import Predictions, Sample, Statistic

BLOCK = 2**23
"""Similarities that are held at once; 32 MiB."""
QUERY = "evaluation.retrieval.query"
AT = re.compile(r"(recall|hit_rate|ndcg|map)_at_([1-9]\d*)")
TITLES = {"recall": "Recall", "hit_rate": "Hit rate", "ndcg": "NDCG", "map": "MAP"}

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranks:
    """Which ranks the relevant answers to each query have.

    Attributes:
        relevant: how many there are, int64 (rows,); 0 of rows that are no queries.
        first: rank of the nearest one, int64 (rows,); 0 without one.
        near: ranks of the nearest, the second nearest, …, int64 (rows, depth); depth + 1 where the
            rank is more than the depth, or there are fewer.
    """

    relevant: Integers
    first: Integers
    near: Integers


def recall(ranks: Ranks, k: int) -> Floats:
    """Returns the share of the relevant answers that are among the first ``k``, (rows,).

    Source: Manning, Raghavan, Schütze 2008, "Introduction to Information Retrieval", section 8.4.
    """
    return np.asarray((ranks.near <= k).sum(axis=1) / np.maximum(ranks.relevant, 1))


def hit_rate(ranks: Ranks, k: int) -> Floats:
    """Returns 1 where a relevant answer is among the first ``k``, else 0, (rows,).

    Source: Oh Song et al. 2016, arXiv 1511.06452, section 5, which calls it Recall@K.
    """
    return (ranks.first <= k).astype(np.float64)


def ndcg(ranks: Ranks, k: int) -> Floats:
    """Returns the discounted cumulative gain of the first ``k`` over the largest possible, (rows,).

    Source: Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with
    gain 1 and discount log2(rank + 1); scikit-learn ``ndcg_score``.
    """
    gains = np.where(ranks.near <= k, 1 / np.log2(ranks.near + 1), 0.0).sum(axis=1)
    ideal = np.append(0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))
    return np.asarray(gains / ideal[np.clip(ranks.relevant, 1, k)])


def average_precision(ranks: Ranks, k: int) -> Floats:
    """Returns the precision at each relevant rank up to ``k``, over all relevant, (rows,).

    Source: trec_eval 9.0 ``map_cut``.
    """
    precision = np.arange(1, ranks.near.shape[1] + 1) / ranks.near
    found = np.where(ranks.near <= k, precision, 0.0).sum(axis=1)
    return np.asarray(found / np.maximum(ranks.relevant, 1))


def reciprocal(ranks: Ranks) -> Floats:
    """Returns 1 / rank of the nearest relevant answer, (rows,).

    Source: Voorhees 1999, "The TREC-8 question answering track report".
    """
    return np.asarray(1 / np.maximum(ranks.first, 1))


FIGURES: dict[str, Callable[[Ranks, int], Floats]] = {
    "recall": recall,
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "map": average_precision,
}


def retrieval_metrics(section: Retrieval, names: Sequence[str]) -> tuple[Metric, ...]:
    """Returns ``mrr``, and those of the metrics ``names`` at a rank; they share the ranks."""
    asked = [(match[0], match[1], int(match[2])) for match in map(AT.fullmatch, names) if match]
    depth = max((k for *_, k in asked), default=1)
    ranks = shared(lambda sample, found: ranks_of(sample, found, section, depth))

    def mean(name: str, title: str, figure: Callable[[Ranks], Floats]) -> Metric:
        def build(sample: Sample, predictions: Predictions) -> Statistic:
            found = ranks(sample, predictions)
            return mean_where(figure(found), found.relevant > 0)

        return Metric(name, title, "higher", build, span=1)

    def at(name: str, kind: str, k: int) -> Metric:
        return mean(name, f"{TITLES[kind]} at {k}", lambda found: FIGURES[kind](found, k))

    return mean("mrr", "MRR", reciprocal), *(at(*one) for one in asked)


def ranks_of(sample: Sample, predictions: Predictions, section: Retrieval, depth: int) -> Ranks:
    """Returns the ranks of the relevant answers to every query, exactly up to ``depth``.

    Raises:
        DataError: rows have no labels, or the column of queries does not tell rows apart.
    """
    if sample.labels.ndim != 1:
        raise DataError("labels", "none", "a label, for metrics of retrieval", "Set data.label.")
    asking, answering = roles_of(sample, section)
    # In the order of their labels, so that the relevant answers to a query lie together.
    answering = answering[np.argsort(sample.labels[answering], kind="stable")]
    given = sample.labels[answering]
    begin = np.searchsorted(given, sample.labels, side="left")
    end = np.searchsorted(given, sample.labels, side="right")
    relevant, first = np.zeros(len(sample), np.int64), np.zeros(len(sample), np.int64)
    near = np.full((len(sample), depth), depth + 1)
    relevant[asking] = (end - begin)[asking] - (section.query is None)
    for rows, similar in similarities(predictions, asking, answering):
        hits = np.full((len(rows), depth), -np.inf, np.float32)
        for place, row in enumerate(rows):
            block = similar[place, begin[row] : end[row]]
            hits[place, : len(block)] = _largest(block[None], depth)[0]
            block[:] = -np.inf  # what is left are the others
        others = _largest(similar, depth)
        found = hits > -np.inf
        first[rows] = np.where(found[:, 0], 1 + (similar >= hits[:, :1]).sum(axis=1), 0)
        before = np.stack([(others >= hit[:, None]).sum(axis=1) for hit in hits.T], axis=1)
        ranks = np.where(found, np.arange(1, depth + 1) + before, depth + 1)
        near[rows] = np.minimum(ranks, depth + 1)
    return Ranks(relevant, first, near)


def roles_of(sample: Sample, section: Retrieval) -> tuple[Integers, Integers]:
    """Returns the rows that ask, and those that answer, int64.

    Raises:
        DataError: the column of queries has other values than true and false, or only one.
    """
    if section.query is None:
        return np.arange(len(sample)), np.arange(len(sample))
    values = numbers_of(sample, section.query, QUERY)
    found = np.unique(values)
    if not np.array_equal(found, [0, 1]):
        shown = ", ".join(f"{value:g}" for value in found[:5])
        raise DataError(f"{QUERY} {section.query!r}", f"the values {shown}", "both true and false")
    return np.flatnonzero(values), np.flatnonzero(values == 0)


def similarities(
    predictions: Predictions, asking: Integers, answering: Integers
) -> Iterator[tuple[Integers, NDArray[np.float32]]]:
    """Yields queries (n,), and the cosine of each with all answers, (n, answers); -inf with itself.

    Rows of zeros have the cosine 0.
    """
    lengths = np.linalg.norm(predictions, axis=1, keepdims=True)
    unit = np.divide(predictions, lengths, out=np.zeros_like(predictions), where=lengths > 0)
    among = unit[answering].T
    place = np.full(len(unit), -1)
    place[answering] = np.arange(len(answering))
    size = max(1, BLOCK // len(answering))
    for start in range(0, len(asking), size):
        rows = asking[start : start + size]
        similar = unit[rows] @ among
        itself = place[rows]
        similar[itself >= 0, itself[itself >= 0]] = -np.inf
        yield rows, similar


def _largest(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Returns the ``k`` largest values of each row, or all when they are fewer, descending."""
    rest = max(0, values.shape[1] - k)
    top = np.partition(values, rest, axis=1)[:, rest:] if rest else values
    return np.sort(top, axis=1)[:, ::-1]
