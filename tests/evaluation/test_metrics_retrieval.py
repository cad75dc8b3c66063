from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    adjusted_rand_score,
    label_ranking_average_precision_score,
    ndcg_score,
    normalized_mutual_info_score,
)

from qtool.config.evaluation import Retrieval, Segmentation
from qtool.errors import DataError
from qtool.evaluation.metrics import retrieval
from qtool.evaluation.metrics.retrieval import ranks_of, retrieval_metrics
from qtool.evaluation.metrics.segmentation import (
    Table,
    ari,
    clusters_of,
    nmi,
    segmentation_metrics,
)
from qtool.evaluation.sample import Sample

ALL = Retrieval()
ASKED = Retrieval(query="asks")
NAMES = [f"{name}_at_{k}" for name in ("recall", "hit_rate", "ndcg", "map") for k in (1, 2, 50)]
# One query at 0 degrees; answers at 10, 20, 30 and 40 degrees, of which 20 and 40 are relevant.
ANGLES = np.radians([0, 10, 20, 30, 40])
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def sample_of(labels: object, embeddings: NDArray, asks: object = None) -> Sample:
    columns = {} if asks is None else {"asks": np.asarray(asks, np.float64)}
    rows = len(embeddings)
    return Sample(np.arange(rows), np.asarray(labels), embeddings, embeddings, columns)


def values(sample: Sample, section: Retrieval, weights: object = None) -> dict[str, float]:
    return {
        metric.name: metric.build(sample, sample.fp32)(weights)
        for metric in retrieval_metrics(section, NAMES)
    }


def test_worked_example() -> None:
    found = values(sample_of([7, 1, 7, 1, 7], CIRCLE, [1, 0, 0, 0, 0]), ASKED)
    ideal = 1 + 1 / np.log2(3)
    expected = {
        "mrr": 1 / 2,
        "recall_at_1": 0,
        "recall_at_2": 1 / 2,
        "recall_at_50": 1,
        "hit_rate_at_1": 0,
        "hit_rate_at_2": 1,
        "hit_rate_at_50": 1,
        "ndcg_at_1": 0,
        "ndcg_at_2": 1 / np.log2(3) / ideal,
        "ndcg_at_50": (1 / np.log2(3) + 1 / np.log2(5)) / ideal,
        "map_at_1": 0,
        "map_at_2": 1 / 2 / 2,
        "map_at_50": (1 / 2 + 2 / 4) / 2,
    }
    assert found == pytest.approx(expected)


def test_without_queries_every_row_asks_all_others() -> None:
    # Rows of label 1 find each other second; of the others, 0 has 20 and 40 at ranks 2 and 4.
    ranks = ranks_of(sample_of([7, 1, 7, 1, 7], CIRCLE), CIRCLE, ALL, 2)
    assert ranks.relevant.tolist() == [2, 1, 2, 1, 2]
    assert ranks.first[[0, 4]].tolist() == [2, 2]
    assert ranks.near[0].tolist() == [2, 3]


def test_queries_without_a_relevant_answer_are_left_out() -> None:
    sample = sample_of([7, 8, 7, 1], CIRCLE[[0, 0, 1, 2]], [1, 1, 0, 0])
    assert values(sample, ASKED)["mrr"] == 1
    assert np.isnan(values(sample_of([1, 2, 3, 4], CIRCLE[:4]), ALL)["mrr"])


def test_ties_are_never_in_favour() -> None:
    # All answers are equally near; two of three are not relevant.
    zeros = np.zeros((4, 2), np.float32)
    ranks = ranks_of(sample_of([7, 7, 1, 1], zeros, [1, 0, 0, 0]), zeros, ASKED, 5)
    assert (ranks.first[0], ranks.near[0, 0]) == (3, 3)


def random_search(seed: int) -> tuple[Sample, NDArray, NDArray]:
    """A sample with queries, its similarities, and what is relevant: (queries, answers)."""
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(6, 40))
    embeddings = rng.normal(size=(rows, 4)).astype(np.float32)
    asks = np.arange(rows) < rows // 3
    sample = sample_of(rng.integers(0, 4, rows), embeddings, asks)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    relevant = sample.labels[asks][:, None] == sample.labels[~asks]
    return sample, unit[asks] @ unit[~asks].T, relevant


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_equals_scikit_learn(seed: int) -> None:
    sample, similar, relevant = random_search(seed)
    some = relevant.any(axis=1)
    if not some.any() or relevant.shape[1] < 2:
        return
    found = values(sample, ASKED)
    for k in (1, 2, 50):
        expected = ndcg_score(relevant[some], similar[some], k=k)
        assert found[f"ndcg_at_{k}"] == pytest.approx(expected, rel=1e-12)
    expected = label_ranking_average_precision_score(relevant[some], similar[some])
    assert found["map_at_50"] == pytest.approx(expected, rel=1e-12)
    best = (-similar[some]).argsort(axis=1)
    hits = np.take_along_axis(relevant[some], best, axis=1)
    assert found["mrr"] == pytest.approx((1 / (hits.argmax(axis=1) + 1)).mean(), rel=1e-12)
    recalls = hits[:, :2].sum(axis=1) / hits.sum(axis=1)
    assert found["recall_at_2"] == pytest.approx(recalls.mean(), rel=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_blocks_change_nothing(seed: int) -> None:
    sample, *_ = random_search(seed)
    whole = [values(sample, section) for section in (ALL, ASKED)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK", 50)
        assert [values(sample, section) for section in (ALL, ASKED)] == [
            pytest.approx(found, nan_ok=True) for found in whole
        ]


def test_weights_draw_queries_and_leave_the_answers() -> None:
    sample, *_ = random_search(3)
    once = {
        name: np.array([values(sample, ASKED, row)[name] for row in np.eye(len(sample))])
        for name in ("mrr", "recall_at_2")
    }
    drawn = np.random.default_rng(0).integers(0, 4, len(sample)).astype(np.float64)
    for name, terms in once.items():
        asked = ~np.isnan(terms)
        expected = np.average(terms[asked], weights=drawn[asked])
        assert values(sample, ASKED, drawn)[name] == pytest.approx(expected)


def test_metrics_share_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(retrieval, "ranks_of", lambda *given: calls.append(1) or ranks_of(*given))
    sample = sample_of([7, 1, 7, 1, 7], CIRCLE)
    int8 = CIRCLE[::-1]
    for metric in retrieval_metrics(ALL, NAMES):
        metric.build(sample, sample.fp32)
        metric.build(sample, int8)
    assert len(calls) == 2


@pytest.mark.parametrize("asks", [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 2, 0, 1]])
def test_the_column_of_queries_must_tell_rows_apart(asks: list[float]) -> None:
    with pytest.raises(DataError, match="both true and false"):
        values(sample_of([7, 1, 7, 1, 7], CIRCLE, asks), ASKED)


def test_labels_are_needed() -> None:
    sample = sample_of(np.empty((5, 0)), CIRCLE)
    with pytest.raises(DataError, match=r"Set data\.label"):
        values(sample, ALL)
    with pytest.raises(DataError, match=r"Set data\.label"):
        segmentation_metrics(Segmentation(clusters=2))[0].build(sample, CIRCLE)


def test_clusters_by_hand() -> None:
    # Two far groups are the two clusters; one row of three has the label of the other group.
    embeddings = np.array([[0], [1], [2], [100], [101], [102]], np.float32)
    labels = [3, 3, 5, 5, 5, 5]
    sample = sample_of(labels, embeddings)
    section = Segmentation(clusters=2)
    clusters = clusters_of(sample, section)(embeddings)
    assert clusters[0] == clusters[2] != clusters[3]
    metrics = {metric.name: metric for metric in segmentation_metrics(section)}
    # Pairs together in both: 1 + 3 = 4 of 15; 7 share a label, 6 a cluster.
    by_chance = 7 * 6 / 15
    expected = (4 - by_chance) / ((7 + 6) / 2 - by_chance)
    assert metrics["ari"].build(sample, embeddings)(None) == pytest.approx(expected)
    mixed = embeddings[[0, 3, 0, 3, 0, 3]]
    assert metrics["ari"].build(sample, mixed)(None) < expected


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_clusters_equal_scikit_learn_on_repeated_rows(rows: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, clusters = rng.integers(0, kinds, (2, rows))
    counts = rng.integers(0, 3, rows)
    counts[0] = 1
    pairs, pair = np.unique(labels * kinds + clusters, return_inverse=True)
    table = Table(np.bincount(pair, counts), *np.divmod(pairs, kinds))
    repeated = np.repeat(labels, counts), np.repeat(clusters, counts)
    assert ari(table) == pytest.approx(adjusted_rand_score(*repeated), rel=1e-12, abs=1e-12)
    expected = normalized_mutual_info_score(*repeated)
    assert nmi(table) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_draw_weighs_the_pairs() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 3)).astype(np.float32)
    sample = sample_of(rng.integers(0, 4, 60), embeddings)
    section = Segmentation(clusters=4)
    clusters = clusters_of(sample, section)(embeddings)
    counts = rng.integers(0, 3, 60)
    repeated = np.repeat(sample.labels, counts), np.repeat(clusters, counts)
    for metric, reference in zip(
        segmentation_metrics(section),
        (adjusted_rand_score, normalized_mutual_info_score),
        strict=True,
    ):
        statistic = metric.build(sample, embeddings)
        assert statistic(counts.astype(np.float64)) == pytest.approx(reference(*repeated))
        assert np.isnan(statistic(np.zeros(60)))


def test_clusters_need_rows() -> None:
    with pytest.raises(DataError, match="6 clusters of 5 rows"):
        clusters_of(sample_of([1] * 5, CIRCLE), Segmentation(clusters=6))
