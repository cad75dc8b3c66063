from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from qtool.config.data import GeneratorSource
from qtool.data.generators.bank_calls import (
    AGE_GROUPS,
    CHUNK_ROWS,
    COUNTS,
    INDICATORS,
    LABEL,
    MONTHS,
    SCHEMA,
    TEXTS,
    BankCalls,
    age_groups,
    deposit_probability,
    make_chunk,
)
from qtool.data.source import open_source

CHUNKS = 4


def table(source: BankCalls, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def calls():
    made = [make_chunk(7, chunk) for chunk in range(CHUNKS)]
    values = {name: np.concatenate([part[0][name] for part in made]) for name in SCHEMA.names}
    return values | {"probability": np.concatenate([part[1] for part in made])}


def test_a_config_opens_it_with_the_columns_of_the_prepared_file():
    section = GeneratorSource(generator="bank_calls", rows=10, seed=3)
    source = open_source(section)
    assert source == BankCalls(rows=10, seed=3)
    assert table(source).schema == SCHEMA
    assert "duration" not in SCHEMA.names


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(900, 20_000), rows=st.integers(1, CHUNK_ROWS + 700))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(batch_rows, rows):
    longer = table(BankCalls(CHUNK_ROWS + 700, seed=7))
    batches = list(BankCalls(rows, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [BankCalls(10, 7), BankCalls(11, 7), BankCalls(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_age_groups_start_with_the_tens():
    assert list(age_groups(np.array([17, 29, 30, 39, 40, 50, 59, 60, 98]))) == [
        AGE_GROUPS[group] for group in (0, 0, 1, 1, 2, 3, 3, 4, 4)
    ]


def test_deposit_probability_of_two_calls_by_hand():
    # At 41, by telephone, the first call, on another day than Monday: only the month and the job.
    # Success 3 days ago adds 2.2 - 0.03 * 3 = 2.11, a mobile call at low interest 0.1 + 0.2.
    values = {
        "age": [41, 41],
        "job": ["technician", "technician"],
        "contact": ["telephone", "cellular"],
        "euribor3m": [4.9, 0.7],
        "campaign": [1, 1],
        "poutcome": ["nonexistent", "success"],
        "pdays": [0, 3],
        "default": ["no", "no"],
        "education": ["high.school", "high.school"],
        "day_of_week": ["tue", "tue"],
    }
    arrays = {name: np.array(column) for name, column in values.items()}
    found = deposit_probability(arrays, np.array([-3.0, -1.0]))
    np.testing.assert_allclose(found, 1 / (1 + np.exp([3.0, 1.0 - 2.11 - 0.3])), rtol=1e-12)


def test_contacts_and_history_agree(calls):
    never = calls["previous"] == 0
    assert ((calls["poutcome"] == "nonexistent") == never).all()
    assert ((calls["poutcome"] == "success") == (calls["contacted"] == 1)).all()
    assert (calls["pdays"][calls["contacted"] == 0] == 0).all()
    assert calls["pdays"].max() < 28
    assert (age_groups(calls["age"]) == calls["age_group"]).all()
    assert set(calls["month"]) <= {month.name for month in MONTHS}


def test_statistics_are_those_of_the_docstring(calls):
    label = calls[LABEL]
    assert label.mean() == pytest.approx(0.113, abs=0.006)

    def share(name, value):
        return (calls[name] == value).mean()

    def deposits(name, value):
        return label[calls[name] == value].mean()

    assert deposits("poutcome", "success") == pytest.approx(0.61, abs=0.04)
    assert deposits("job", "student") == pytest.approx(0.22, abs=0.06)
    assert deposits("contact", "telephone") == pytest.approx(0.065, abs=0.01)
    assert deposits("contact", "cellular") == pytest.approx(0.14, abs=0.01)
    assert share("month", "may") == pytest.approx(0.33, abs=0.01)
    assert share("contact", "cellular") == pytest.approx(0.64, abs=0.01)
    assert share("contacted", 1) == pytest.approx(0.04, abs=0.005)
    assert calls["campaign"].mean() == pytest.approx(2.6, abs=0.05)
    assert share("marital", "married") == pytest.approx(0.65, abs=0.02)
    assert share("job", "admin.") == pytest.approx(0.26, abs=0.01)
    assert np.median(calls["age"]) == pytest.approx(38, abs=1)


def test_the_best_possible_auc_is_known_and_nearly_reached(calls):
    best = roc_auc_score(calls[LABEL], calls["probability"])
    assert best == pytest.approx(0.80, abs=0.015)
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(
        np.column_stack([calls[name] for name in TEXTS])
    )
    numbers = np.column_stack([calls[name] for name in (*COUNTS, *INDICATORS)]).astype(float)
    x, half = np.hstack([one_hot, numbers]), 10_000
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    model.fit(x[:half], calls[LABEL][:half])
    reached = roc_auc_score(calls[LABEL][half:], model.predict_proba(x[half:])[:, 1])
    assert best - 0.02 < reached < best + 0.015
