from __future__ import annotations

import numpy as np
import pytest

from qtool.config.evaluation import Retrieval
from qtool.data.batch import Batch
from qtool.evaluation.metrics.retrieval import ndcg, ranks_of, recall
from qtool.evaluation.sample import Sample
from sample_models.systems.retrieval import search

pytest.importorskip("faiss")

PASSAGES, QUERIES, WIDTH = 200, 40, 64


@pytest.fixture
def rows():
    """Queries are their passage with noise; two have two passages, and two have none."""
    random = np.random.default_rng(0)
    passages = random.standard_normal((PASSAGES, WIDTH)).astype(np.float32)
    passages[1] = passages[0] + 0.1
    asked = np.arange(QUERIES)
    queries = passages[asked] + 5.0 * random.standard_normal((QUERIES, WIDTH)).astype(np.float32)
    labels = np.concatenate([np.arange(PASSAGES), asked])
    labels[1] = 0
    labels[-1], labels[-2] = PASSAGES, 0
    return Batch(
        np.arange(PASSAGES + QUERIES),
        labels,
        {"vectors": np.concatenate([passages, queries])},
        {"is_question": np.arange(PASSAGES + QUERIES) >= PASSAGES},
    )


def same(inputs):
    return {"embedding": 3.0 * inputs["vectors"]}


def reference(rows):
    """What the metrics of the evaluation say of the same vectors."""
    vectors = rows.inputs["vectors"]
    columns = {"is_question": rows.columns["is_question"].astype(np.float64)}
    sample = Sample(rows.rows, rows.labels, vectors, vectors, columns)
    ranks = ranks_of(sample, vectors, Retrieval(query="is_question"), 10)
    asked = ranks.relevant > 0
    return recall(ranks, 10)[asked], ndcg(ranks, 10)[asked]


def test_float_vectors_find_what_the_metrics_say(rows):
    found = search(same, same, rows, "is_question")
    recalls, gains = reference(rows)
    assert 0.2 < recalls.mean() < 0.95
    np.testing.assert_allclose(found["index_recall_at_10"][0], recalls)
    np.testing.assert_allclose(found["index_ndcg_at_10"][0], gains)


def test_vectors_of_8_bits_find_nearly_the_same_in_a_quarter_of_the_memory(rows):
    found = search(same, same, rows, "is_question")
    for name in ("index_recall_at_10", "index_ndcg_at_10"):
        fp32, int8 = found[name]
        assert fp32.shape == int8.shape == (QUERIES - 2,)
        assert np.abs(fp32 - int8).mean() < 0.03
    fp32, int8 = found["index_mb"]
    assert fp32[0] == pytest.approx(4 * PASSAGES * WIDTH / 1e6, rel=0.01)
    assert int8[0] == pytest.approx(PASSAGES * WIDTH / 1e6, rel=0.02)
    assert all(side.shape == (1,) and side[0] > 0 for side in found["end_to_end_ms"])


def test_a_graph_finds_nearly_what_a_comparison_with_all_finds(rows):
    flat, graph = (search(same, same, rows, "is_question", links) for links in (0, 16))
    for side in (0, 1):
        other = flat["index_recall_at_10"][side] != graph["index_recall_at_10"][side]
        assert other.mean() < 0.1
    assert graph["index_mb"][0] > flat["index_mb"][0]


def test_fewer_passages_than_are_looked_for(rows):
    few = rows.take(np.r_[0:4, PASSAGES : PASSAGES + 4])
    found = search(same, same, few, "is_question")
    np.testing.assert_array_equal(found["index_recall_at_10"][0], 1.0)


def test_an_encoder_that_errs_is_seen(rows):
    def wrong(inputs):
        random = np.random.default_rng(len(inputs["vectors"]))
        return {"embedding": random.standard_normal(inputs["vectors"].shape).astype(np.float32)}

    found = search(same, wrong, rows, "is_question")
    fp32, int8 = found["index_recall_at_10"]
    assert int8.mean() < 0.5 * fp32.mean()
