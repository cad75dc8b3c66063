from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.generators import report_questions
from sample_models.baselines.retrieval import bm25
from sample_models.prepare.retrieval import words
from sample_models.retrieval import excerpts, question_loss


@pytest.fixture
def encoder():
    return built("retrieval", {"tokens": {"shape": [8]}}, vocabulary=512, embedding=256, width=16)


def test_padding_changes_no_embedding(encoder):
    tokens = torch.tensor([[7, 300, 12, 0, 0, 0, 0, 0], [7, 300, 12, 5, 6, 8, 1, 2]])
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0]] * 2)
    with torch.no_grad():
        padded, filled = encoder(tokens, mask)
    torch.testing.assert_close(padded, filled)


def test_untrained_it_ranks_by_shared_words_the_rare_ones_first(encoder):
    texts = [[500, 4], [500, 9], [9, 4], [17, 40]]
    tokens = torch.zeros(4, 8, dtype=torch.int64)
    for row, text in enumerate(texts):
        tokens[row, :2] = torch.tensor(text)
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(encoder(tokens, (tokens > 0).long()), dim=1)
    similar = (vectors @ vectors[0])[1:]
    assert similar.argsort(descending=True).tolist() == [0, 1, 2]
    assert abs(similar[2]) < 0.3


REPORT = {
    "table": {"uid": "t1", "table": [["", "2019", "2018"], ["Total sales", "1,496.5", "1,202.9"]]},
    "paragraphs": [
        {"uid": "p1", "order": 1, "text": "Our sales are of fixed price contracts."},
        {"uid": "p2", "order": 2, "text": "Contracts are paid in 2019."},
    ],
    "questions": [
        {"question": "What were total sales in 2019?", "answer_from": "table-text",
         "rel_paragraphs": ["2"]},
        {"question": "When are contracts paid?", "answer_from": "text", "rel_paragraphs": ["2"]},
    ],
}  # fmt: skip


def test_retrieval_reads_tat_qa(monkeypatch, tmp_path):
    (tmp_path / "dev.json").write_text(json.dumps([REPORT]))
    table = prepared(monkeypatch, tmp_path, "retrieval", tmp_path / "dev.json")
    assert table.schema.equals(report_questions.SCHEMA)
    rows = table.to_pylist()
    assert [(row["passage"], row["is_question"]) for row in rows] == [
        ("t1", False), ("p1", False), ("p2", False), ("t1", True), ("p2", True)
    ]  # fmt: skip
    # From 3 on: 2019, are, contracts, sales, in, paid, total; the others occur once.
    assert rows[0]["tokens"] == [2, 3, 9, 6]
    assert rows[4]["tokens"] == [1, 4, 5, 8]


def test_words_are_letters_and_years():
    text = "At 31 December 2019, sales of $2,019 (2018: 20.19) rose 1,996.5 m; note-7B."
    found = ["at", "december", "2019", "sales", "of", "2018", "rose", "m", "note", "b"]
    assert words(text) == found


def test_rows_without_a_partner_become_excerpts_of_longer_ones():
    lengths = torch.tensor([30, 5, 25, 4, 10, 9])
    labels = torch.tensor([1, 2, 3, 4, 7, 7])  # the last two have each other
    mask = (torch.arange(32) < lengths[:, None]).long()
    tokens = torch.arange(100, 6 * 32 + 100).reshape(6, 32) * mask
    torch.manual_seed(3)
    inputs, found = excerpts({"tokens": tokens, "mask": mask}, labels)
    assert found.tolist() == [1, 1, 3, 3, 7, 7]
    kept = [0, 2, 4, 5]
    assert torch.equal(inputs["tokens"][kept], tokens[kept])
    assert torch.equal(inputs["mask"][kept], mask[kept])
    for excerpt, source in ((1, 0), (3, 2)):
        asked, *words = inputs["tokens"][excerpt][inputs["mask"][excerpt] == 1].tolist()
        assert asked == 1
        assert 6 <= len(words) <= 20
        assert words == list(range(words[0], words[0] + len(words)))
        assert set(words) <= set(tokens[source, 1:].tolist())
        assert (inputs["tokens"][excerpt] > 0).sum() == 1 + len(words)
    assert labels.tolist() == [1, 2, 3, 4, 7, 7]  # the rows that are kept for the next epoch


def test_the_loss_of_questions_and_passages_by_hand():
    # Questions along the first and the second axis, passages alike and one that nobody asks for.
    embeddings = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0], [-1.0, 0.0]])
    tokens = torch.tensor([[1, 5], [1, 6], [2, 5], [2, 6], [2, 7]])
    labels = torch.tensor([1, 2, 1, 2, 3])
    loss = question_loss({"e": embeddings}, labels, {"tokens": tokens}, temperature=1.0)
    # Similarities of the questions: 1, 0, -1 and 0, 1, 0; of the asked passages: 1, 0 and 0, 1.
    e = np.e
    there = (np.log(1 + 1 / e + 1 / e**2) + np.log(1 + 2 / e)) / 2
    back = np.log(1 + 1 / e)
    assert loss.item() == pytest.approx((there + back) / 2, rel=1e-6)


def test_bm25_of_two_passages_by_hand():
    tokens = np.array([[2, 5, 6, 0, 0], [2, 5, 7, 8, 9], [1, 5, 6, 0, 0], [1, 7, 0, 0, 0]])
    vectors = bm25(tokens, np.array([False, False, True, True]))
    lengths = np.linalg.norm(vectors[:2], axis=1)
    assert lengths[0] == pytest.approx(lengths[1])  # so that the cosine is the product
    products = vectors[2:] @ vectors[:2].T
    # Word 5 is in both passages, 6 and 7 are in one; lengths are 2 and 4, 3 on average.
    both, one = np.log1p(0.5 / 2.5), np.log1p(1.5 / 1.5)
    short, long = 1 / (1 + 1.2 * (0.25 + 0.75 * 2 / 3)), 1 / (1 + 1.2 * (0.25 + 0.75 * 4 / 3))
    expected = [[(both + one) * short, both * long], [0, one * long]]
    np.testing.assert_allclose(products, expected, rtol=1e-12)
