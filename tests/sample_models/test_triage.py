from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from support.cli import ROOT
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import customer_messages
from sample_models.baselines.__main__ import main
from sample_models.systems.triage import routing
from sample_models.triage import GAIN

STEPS, CLASSES = 6, 3


@pytest.fixture
def classifier():
    return built(
        "triage",
        {"words": {"shape": [STEPS]}},
        classes=CLASSES,
        words=64,
        ngrams=128,
        width=16,
        heads=2,
        hidden=32,
        dropout=0.0,
    )


def messages(lengths):
    words = torch.randint(1, 64, (len(lengths), STEPS))
    mask = (torch.arange(STEPS) < torch.tensor(lengths)[:, None]).float()
    ngrams = torch.randint(1, 128, (len(lengths), 8))
    return words * mask.long(), mask, ngrams, torch.ones(len(lengths), 8)


def test_training_leaves_padding_out_and_computes_the_same(classifier):
    inputs = messages([6, 2, 4, 1])
    with torch.no_grad():
        scores = classifier.eval()(*inputs)
        unpadded = classifier.train()(*inputs)
    assert scores.shape == (4, CLASSES)
    torch.testing.assert_close(unpadded, scores)


def test_words_behind_the_end_change_nothing(classifier):
    words, mask, ngrams, count = messages([6, 2])
    other = torch.where(mask > 0, words, 7)
    with torch.no_grad():
        found = classifier(words, mask, ngrams, count)
        torch.testing.assert_close(classifier(other, mask, ngrams, count), found)


def test_the_wide_part_by_hand(classifier):
    torch.nn.init.zeros_(classifier.head.weight)
    torch.nn.init.zeros_(classifier.head.bias)
    with torch.no_grad():
        classifier.wide.weight[5] = torch.tensor([1.0, 2.0, 3.0])
        classifier.wide.weight[9] = torch.tensor([0.5, 0.0, -1.0])
        words, mask, *_ = messages([2])
        ngrams = torch.tensor([[5, 9, 5, 9, 0, 0, 0, 0]])
        count = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0]])
        scores = classifier(words, mask, ngrams, count)
    expected = torch.tensor([[3.0, 4.0, 4.0]]) * GAIN / 2  # the square root of four n-grams
    torch.testing.assert_close(scores, expected)


def test_banking77_keeps_its_official_split(monkeypatch, tmp_path):
    for name, count in (("train", 30), ("test", 10)):
        texts = [f"{name} {number}, it's late" for number in range(count)]
        table = pa.table({"text": texts, "category": [f"intent {i % 3}" for i in range(count)]})
        pa_csv.write_csv(table, tmp_path / f"{name}.csv")
    table = prepared(monkeypatch, tmp_path, "triage", tmp_path / "train.csv", tmp_path / "test.csv")
    assert table.schema.equals(customer_messages.SCHEMA)
    rows = table.to_pylist()
    assert [row["number"] for row in rows] == list(range(40))
    assert [row["text"].split()[0] for row in rows] == ["train"] * 30 + ["test"] * 10
    order = [int(row["text"].split()[1].rstrip(",")) for row in rows[:30]]
    assert sorted(order) == list(range(30))
    assert order != list(range(30))
    assert all(
        row["intent"] == f"intent {number % 3}"
        for row, number in zip(rows[:30], order, strict=True)
    )


def test_complaints_with_a_narrative_once_each(monkeypatch, tmp_path):
    text, product = "Consumer complaint narrative", "Product"
    pq.write_table(
        pa.table(
            {
                text: ["They call.", "They call.", None, "My loan.", "Odd."],
                product: ["Debt collection", "Debt collection", "Mortgage", "Payday loan", "?"],
            }
        ),
        tmp_path / "one.parquet",
    )
    two = {product: ["Credit card or prepaid card"], text: ["My card was charged."]}
    pq.write_table(pa.table(two), tmp_path / "two.parquet")
    table = prepared(
        monkeypatch, tmp_path, "triage", tmp_path / "one.parquet", tmp_path / "two.parquet"
    )
    found = {row["text"]: row["intent"] for row in table.to_pylist()}
    assert table.num_rows == 3
    expected = {"They call.": "debt collection", "My loan.": "loan", "My card was charged.": "card"}
    assert found == expected


def test_routing_by_hand():
    rows = Batch(np.arange(3), np.array([0, 1, 0]), {"words": np.zeros((3, 2), np.int64)})
    logits = {
        "sure": np.log([[0.8, 0.2], [0.9, 0.1], [0.6, 0.4]]),
        "less sure": np.log([[0.8, 0.2], [0.6, 0.4], [0.6, 0.4]]),
    }
    found = routing(
        lambda inputs: {"scores": logits["sure"]},
        lambda inputs: {"scores": logits["less sure"]},
        rows,
        threshold=0.7,
    )
    assert [side.tolist() for side in found["routed"]] == [[1, 1, 0], [1, 0, 0]]
    assert [side.tolist() for side in found["misrouted"]] == [[0, 1, 0], [0, 0, 0]]


def test_baselines_find_intents(monkeypatch, capsys):
    path = str(ROOT / "configs" / "triage_auto.yaml")
    monkeypatch.setattr(sys, "argv", ["baselines", path, "--set", "data.source.rows=1500"])
    main()
    found = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert list(found) == ["logistic regression, words", "linear SVM, n-grams"]
    for figures in found.values():
        assert float(figures.split(", ")[1].removeprefix("Accuracy ")) > 0.6
