from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.language_models import generated, session
from support.quantizing import quantized
from support.sample_models import built, prepared

from qtool.config.quantization import (
    DynamicQuantization,
    StaticQuantization,
    WeightOnlyQuantization,
)
from qtool.data.batch import Batch
from qtool.data.generators import finance_text
from qtool.graph.model_file import model_bytes
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.importer import TorchGraph
from sample_models.baselines.language_model import kneser_ney
from sample_models.systems.language_model import generation

LAYERS, HEADS, SIZE, CONTEXT, VOCABULARY = 2, 4, 16, 24, 96
CACHES = [f"past_{what}_{layer}" for layer in range(LAYERS) for what in ("key", "value")]
INPUTS = {"tokens": {"shape": [CONTEXT]}} | {name: {"shape": [HEADS, 0, SIZE]} for name in CACHES}
ANY_SIZE = {"tokens": {1: "steps"}} | {name: {2: "past"} for name in CACHES}
METHODS = {
    "4 bits": WeightOnlyQuantization(method="weight_only", bits=4, block_size=32),
    "8 bits": WeightOnlyQuantization(method="weight_only"),
    "dynamic": DynamicQuantization(method="dynamic"),
    "static": StaticQuantization(method="static"),
}


def rows_of(tokens):
    empty = np.zeros((len(tokens), HEADS, 0, SIZE), np.float32)
    return {"tokens": tokens} | dict.fromkeys(CACHES, empty)


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(1, VOCABULARY, (8, CONTEXT))


@pytest.fixture(scope="module")
def model():
    model = built("language_model", INPUTS, vocabulary=VOCABULARY)
    with torch.no_grad():  # fresh tables are so small that all logits are nearly alike
        for parameter in (model.table.weight, model.head.weight, model.positions.weight):
            parameter.mul_(20.0)
    return model


@pytest.fixture(scope="module")
def graph(model, tokens):
    return export_onnx(model, rows_of(tokens), any_size=ANY_SIZE)


def test_a_token_depends_on_those_before_it_alone(model, tokens):
    changed = tokens.copy()
    changed[:, 10] = (tokens[:, 10] + 1) % VOCABULARY
    with torch.no_grad():
        first, second = (
            model(**{name: torch.from_numpy(x) for name, x in rows_of(given).items()})["logits"]
            for given in (tokens, changed)
        )
    torch.testing.assert_close(first[:, :10], second[:, :10])
    assert (first[:, 10:] - second[:, 10:]).abs().amax(dim=(0, 2)).min() > 1e-3


def test_with_the_cache_token_by_token_gives_the_same_logits(model, graph, tokens):
    whole, pieces = generated(session(model_bytes(graph)), tokens, first=7)
    with torch.no_grad():
        inputs = {name: torch.from_numpy(x) for name, x in rows_of(tokens).items()}
        expected = model(**inputs)["logits"].numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-4)
    np.testing.assert_allclose(pieces, expected, atol=1e-4)
    trained = TorchGraph(graph)(inputs)["logits"].detach().numpy()
    np.testing.assert_allclose(trained, expected, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_quantized_it_goes_on_with_its_cache(graph, tokens, name):
    _, plan, int8 = quantized(graph, rows_of(tokens), METHODS[name])
    assert plan.has(METHODS[name].method)
    whole, pieces = generated(session(model_bytes(int8)), tokens, first=7)
    if name == "dynamic":  # whose ranges are those of the tokens of one call
        assert (pieces.argmax(2) == whole.argmax(2)).mean() > 0.9
    else:
        np.testing.assert_allclose(pieces, whole, atol=2e-3 * np.abs(whole).max())
    reference, _ = generated(session(model_bytes(graph)), tokens, first=7)
    assert np.abs(whole - reference).max() > 1e-3
    assert (whole.argmax(2) == reference.argmax(2)).mean() > 0.7


class Counting:
    """A model that says the next number; its cache holds how many tokens it has read."""

    def __init__(self, wrong_from=None):
        self.wrong_from, self.calls = wrong_from, []

    def __call__(self, inputs):
        tokens, past = inputs["tokens"], inputs["past_key_0"]
        self.calls.append(tokens.shape)
        read = past.shape[2] + tokens.shape[1]
        step = 1 if self.wrong_from is None or read < self.wrong_from else 2
        logits = np.eye(100, dtype=np.float32)[(tokens + step) % 100]
        return {"logits": logits, "present_key_0": np.zeros((1, 1, read, 1), np.float32)}


def test_generation_by_hand():
    tokens = np.arange(3)[:, None] * 10 + np.arange(1, 9)
    tokens[1, 3:] = 0  # too short for a prompt of 4
    inputs = {"tokens": tokens, "past_key_0": np.zeros((3, 1, 0, 1), np.float32)}
    fp32, int8 = Counting(), Counting(wrong_from=7)
    found = generation(fp32, int8, Batch(np.arange(3), None, inputs, {}), 4, 5, prompts=8)
    assert fp32.calls == int8.calls == [(1, 4), (1, 1), (1, 1), (1, 1), (1, 1)] * 2
    # Tokens 5, 6 and 7 are as FP32 has them; from 7 read tokens on they are one more.
    agreement, before, speed = found.values()
    np.testing.assert_array_equal(agreement, [[1, 1], [0.6, 0.6]])
    np.testing.assert_array_equal(before, [[5, 5], [3, 3]])
    assert [side.shape for side in speed] == [(1,), (1,)]
    with pytest.raises(ValueError, match="no row has 9 tokens"):
        generation(fp32, int8, Batch(np.arange(3), None, inputs, {}), 9, 5, prompts=8)


def test_kneser_ney_of_bigrams_by_hand():
    learned = np.array([[1, 2, 3, 0], [1, 2, 2, 0]])
    judged = np.array([[1, 2, 3, 0], [1, 4, 0, 0]])
    found = kneser_ney(learned, judged, 2)
    # Continuations: 2 follows 1 and 2, and 3 follows 2: three bigrams of two tokens.
    uniform = 1 / finance_text.VOCABULARY
    two, three = ((kinds - 0.75 + 0.75 * 2 * uniform) / 3 for kinds in (2, 1))
    four = 0.75 * 2 * uniform / 3
    expected = [
        (2 - 0.75 + 0.75 * 1 * two) / 2,
        (1 - 0.75 + 0.75 * 2 * three) / 2,
        0.75 * 1 * four / 2,
    ]
    np.testing.assert_allclose(found, expected)


def test_kneser_ney_sums_to_one():
    random = np.random.default_rng(0)
    learned = random.integers(1, 6, (40, 12))
    everything = np.arange(finance_text.VOCABULARY)
    judged = np.stack([np.full_like(everything, 3), np.full_like(everything, 2), everything], 1)
    judged = judged[1:]  # padding is no token
    found = kneser_ney(learned, judged, 3).reshape(-1, 2)[:, 1]
    assert found.sum() == pytest.approx(1 - found[0] * 0, abs=1e-3)


REPORT = {
    "table": {"uid": "t", "table": [["", "2019"], ["Total sales", "1,496.5"]]},
    "paragraphs": [
        {"uid": "b", "order": 2, "text": "Sales are recognized when goods are delivered."},
        {"uid": "a", "order": 1, "text": "Our  sales are of fixed price contracts."},
    ],
    "questions": [],
}


def test_complaints_reports_and_receipts_become_rows(monkeypatch, tmp_path):
    pytest.importorskip("tokenizers")
    long = " ".join(f"word{number}" for number in range(300))
    narratives = [None, "They never sent the letter.", long, "They never  sent the letter."]
    files = [tmp_path / "complaints.parquet", tmp_path / "receipts.parquet", tmp_path / "dev.json"]
    pq.write_table(pa.table({"Consumer complaint narrative": narratives}), files[0])
    receipts = {"receipt": ["001", "001", "000"], "line": [1, 0, 0], "text": ["RM 5", "SHOP", "X"]}
    pq.write_table(pa.table(receipts), files[1])
    files[2].write_text(json.dumps([REPORT]))
    table = prepared(monkeypatch, tmp_path, "language_model", *files)
    assert table.schema.equals(finance_text.SCHEMA)
    rows = table.to_pylist()
    kinds = ["complaint", "complaint", "receipt", "receipt", "report"]  # the same text once
    documents = dict.fromkeys(row["document"] for row in rows)
    assert [name.split()[0] for name in documents] == kinds
    assert all(1 < len(row["tokens"]) <= finance_text.STEPS for row in rows)
    parts = [row["tokens"] for row in rows if row["document"] == list(documents)[1]]
    assert len(parts) > 1
    assert parts[0][0] == finance_text.START
    assert [part[0] for part in parts[1:]] == [part[-1] for part in parts[:-1]]
    assert max(max(row["tokens"]) for row in rows) < finance_text.VOCABULARY
