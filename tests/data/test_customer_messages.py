from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from qtool.config.data import GeneratorSource
from qtool.data.generators.customer_messages import (
    CHUNK_ROWS,
    INTENTS,
    SCHEMA,
    CustomerMessages,
    make_chunk,
)
from qtool.data.generators.message_tokens import words as words_of
from qtool.data.source import open_source

ROWS = 5 * CHUNK_ROWS


def table(source: CustomerMessages, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    return table(CustomerMessages(ROWS, seed=7))


def test_a_config_opens_it():
    section = GeneratorSource(generator="customer_messages", rows=10, seed=3)
    source = open_source(section)
    assert source == CustomerMessages(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(300, 2_000), rows=st.integers(1, 2_500))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(rows, batch_rows):
    longer = table(CustomerMessages(2_500, seed=7))
    batches = list(CustomerMessages(rows, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [CustomerMessages(10, 7), CustomerMessages(11, 7), CustomerMessages(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_some_columns_are_those_of_all(rows):
    (batch,) = CustomerMessages(50, 7).batches(["intent", "number"], 100)
    assert batch.schema.names == ["intent", "number"]
    assert batch["intent"].equals(rows.slice(0, 50)["intent"].combine_chunks())


def test_lengths_and_classes_are_those_of_the_docstring(rows):
    lengths = np.array([len(words) for words in rows["words"].to_pylist()])
    assert np.median(lengths) == pytest.approx(11, abs=1)
    assert np.quantile(lengths, 0.95) == pytest.approx(19, abs=1)
    ngrams = np.array([len(ngrams) for ngrams in rows["ngrams"].to_pylist()])
    assert np.median(ngrams) == pytest.approx(61, abs=3)
    counts = Counter(rows["intent"].to_pylist())
    assert set(counts) == set(INTENTS)
    assert 4 < max(counts.values()) / min(counts.values()) < 7
    words = Counter(word for text in rows["text"].to_pylist() for word in words_of(text))
    assert 0.4 < sum(count == 1 for count in words.values()) / len(words) < 0.65


def test_intents_move_slowly():
    early, late = (Counter(intent for _, intent in make_chunk(7, chunk)) for chunk in (0, 8))
    changed = sum(abs(early[intent] - late[intent]) for intent in INTENTS) / CHUNK_ROWS
    assert 0.1 < changed < 0.5


def test_a_linear_machine_finds_most_but_not_all(rows):
    numbers, intents = rows["ngrams"].to_pylist(), np.array(rows["intent"].to_pylist())
    tf_idf = TfidfVectorizer(analyzer=lambda row: map(str, row), sublinear_tf=True)
    vectors = tf_idf.fit_transform(numbers)
    cut = ROWS * 3 // 4
    machine = LinearSVC(C=0.5).fit(vectors[:cut], intents[:cut])
    found = machine.predict(vectors[cut:])
    assert f1_score(intents[cut:], found, average="macro") == pytest.approx(0.88, abs=0.03)
