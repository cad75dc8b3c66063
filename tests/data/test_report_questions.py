from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from qtool.config.data import GeneratorSource
from qtool.data.generators.report_questions import (
    FIRST_WORD,
    PASSAGE,
    PASSAGES,
    QUESTION,
    QUESTIONS,
    SCHEMA,
    WORDS,
    ReportQuestions,
    make_chunk,
)
from qtool.data.source import open_source

DOCUMENT = PASSAGES + QUESTIONS


def table(source: ReportQuestions, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    chunks = [make_chunk(7, chunk) for chunk in range(3)]
    return [row for chunk in chunks for row in chunk][: 133 * DOCUMENT]


def test_a_config_opens_it():
    section = GeneratorSource(generator="report_questions", rows=10, seed=3)
    source = open_source(section)
    assert source == ReportQuestions(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(300, 2_000), rows=st.integers(1, 1_500))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(batch_rows, rows):
    longer = table(ReportQuestions(1_500, seed=7))
    batches = list(ReportQuestions(rows, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [ReportQuestions(10, 7), ReportQuestions(11, 7), ReportQuestions(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_every_question_has_one_passage_in_its_own_document(rows):
    for first in range(0, len(rows), DOCUMENT):
        document = rows[first : first + DOCUMENT]
        assert len({row["document"] for row in document}) == 1
        passages = [row["passage"] for row in document if not row["is_question"]]
        assert len(set(passages)) == PASSAGES
        assert {row["passage"] for row in document if row["is_question"]} <= set(passages)


def test_lengths_are_those_of_the_docstring(rows):
    lengths = {
        kind: np.array([len(row["tokens"]) for row in rows if row["is_question"] is kind])
        for kind in (False, True)
    }
    assert lengths[False].max() <= 65  # with what it is
    assert lengths[True].max() <= 21
    assert np.median(lengths[False]) == pytest.approx(22, abs=2)
    assert np.median(lengths[True]) == pytest.approx(11, abs=1)
    for row in rows:
        first, *words = row["tokens"]
        assert first == (QUESTION if row["is_question"] else PASSAGE)
        assert len(set(words)) == len(words)
        assert min(words) >= FIRST_WORD
        assert max(words) < WORDS


def test_tf_idf_finds_as_many_as_in_tat_qa(rows):
    passages = [row for row in rows if not row["is_question"]]
    questions = [row for row in rows if row["is_question"]]
    tf_idf = TfidfVectorizer(analyzer=lambda words: map(str, words), sublinear_tf=True)
    found = tf_idf.fit_transform([row["tokens"] for row in passages])
    asked = tf_idf.transform([row["tokens"] for row in questions])
    best = np.argsort(-(asked @ found.T).toarray(), axis=1)[:, :10]
    names = np.array([row["passage"] for row in passages])
    hits = names[best] == np.array([row["passage"] for row in questions])[:, None]
    assert hits.any(axis=1).mean() == pytest.approx(0.85, abs=0.03)
