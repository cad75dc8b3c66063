from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.finance_text import (
    CLOSED,
    FIRST,
    KINDS,
    MASK,
    NUMBERS,
    OPEN,
    SCHEMA,
    START,
    STEPS,
    VOCABULARY,
    FinanceText,
    document_rows,
    text,
)
from qtool.data.source import open_source
from sample_models.baselines.language_model import kneser_ney


def table(source: FinanceText, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    return table(FinanceText(4_000, seed=7)).to_pylist()


def test_a_config_opens_it():
    source = open_source(GeneratorSource(generator="finance_text", rows=10, seed=3))
    assert source == FinanceText(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(20, 300), rows=st.integers(1, 400))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(batch_rows, rows):
    longer = table(FinanceText(400, seed=7))
    batches = list(FinanceText(rows, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [FinanceText(10, 7), FinanceText(11, 7), FinanceText(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_the_rows_of_a_document_hold_every_token_once():
    tokens = list(range(2, 2 + 300))
    parts = [row["tokens"] for row in document_rows("report", 4, tokens)]
    assert [len(part) for part in parts] == [STEPS, STEPS, 47]
    assert parts[0][0] == START
    assert [token for part in parts for token in part[1:]] == tokens
    assert [part[0] for part in parts[1:]] == [part[-1] for part in parts[:-1]]
    assert not list(document_rows("report", 4, []))


def test_tokens_are_words():
    assert max(FIRST.values()) < VOCABULARY
    assert FIRST["noun"] == START + 1 + len(CLOSED)
    assert FIRST["place"] + OPEN["place"] <= VOCABULARY
    words = text([START, NUMBERS["total"], *range(FIRST["noun"], VOCABULARY)]).split()
    assert words[0] == "total"
    assert len(set(words)) == len(words)
    assert not set(words[1:]) & set(CLOSED)


def test_documents_are_as_long_and_as_many_as_the_docstring_says(rows):
    lengths: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    for row in rows:
        found = lengths[row["kind"]]
        found[row["document"]] = found.get(row["document"], 0) + len(row["tokens"]) - 1
    mean = {kind: np.mean(list(found.values())) for kind, found in lengths.items()}
    assert mean["complaint"] == pytest.approx(325, rel=0.1)
    assert mean["report"] == pytest.approx(490, rel=0.1)
    assert mean["receipt"] == pytest.approx(325, rel=0.1)
    shares = {kind: sum(found.values()) for kind, found in lengths.items()}
    assert shares["complaint"] / sum(shares.values()) == pytest.approx(0.72, abs=0.04)
    tokens = np.concatenate([row["tokens"] for row in rows])
    assert (tokens == NUMBERS[MASK]).mean() == pytest.approx(0.02, abs=0.01)


def test_longer_contexts_predict_better(rows):
    padded = np.zeros((len(rows), STEPS), np.int64)
    for row, found in zip(padded, rows, strict=True):
        row[: len(found["tokens"])] = found["tokens"]
    learned, judged = padded[:3400], padded[3400:]
    perplexity = [np.exp(-np.log(kneser_ney(learned, judged, order)).mean()) for order in (1, 2, 3)]
    np.testing.assert_allclose(perplexity, [398, 60, 46], rtol=0.1)
