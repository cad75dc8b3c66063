from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from qtool.config.data import GeneratorSource
from qtool.data.generators.insurance_claims import (
    AGES,
    CHUNK_ROWS,
    INTERCEPT,
    LABEL,
    MONTHS,
    RISKS,
    SCHEMA,
    SHARES,
    InsuranceClaims,
    fraud_probability,
)
from qtool.data.source import open_source

ROWS = 40_000


def table(source: InsuranceClaims, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def claims() -> dict[str, np.ndarray]:
    made = table(InsuranceClaims(ROWS, seed=7))
    return {name: made[name].to_numpy(zero_copy_only=False) for name in SCHEMA.names}


def test_a_config_opens_it():
    section = GeneratorSource(generator="insurance_claims", rows=10, seed=3)
    source = open_source(section)
    assert source == InsuranceClaims(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(900, 9_000), rows=st.integers(1, CHUNK_ROWS + 700))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = InsuranceClaims(rows, seed=7)
    batches = list(source.batches(["Make", LABEL], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["Make", LABEL]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [InsuranceClaims(10, 7), InsuranceClaims(11, 7), InsuranceClaims(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_fraud_probability_of_two_claims_by_hand():
    values = {name: np.array(["nothing of note"] * 2) for name in (*SHARES, *RISKS)}
    values |= {"Fault": np.array(["Policy Holder", "Third Party"]), "Year": np.array([1995, 1994])}
    values |= {"BasePolicy": np.array(["Collision", "Liability"])}
    values |= {"VehicleCategory": np.array(["Sedan", "Sport"]), "Deductible": np.array([400, 500])}
    logit = [INTERCEPT, INTERCEPT - 2.6 + 0.12 + 1.2 - 3.0]
    np.testing.assert_allclose(fraud_probability(values), 1 / (1 + np.exp(-np.array(logit))))


def test_months_are_in_order_and_claims_follow_accidents(claims):
    month = np.array([MONTHS.index(name) for name in claims["Month"]])
    assert (np.diff(12 * claims["Year"] + month) >= 0).all()
    claimed = np.array([MONTHS.index(name) for name in claims["MonthClaimed"]])
    later = (claimed - month) % 12
    assert (later <= 4).mean() > 0.999
    same = later == 0
    assert (claims["WeekOfMonthClaimed"] >= claims["WeekOfMonth"])[same].all()


def test_ages_are_those_of_their_group(claims):
    for name, first in AGES.items():
        ages = claims["Age"][claims["AgeOfPolicyHolder"] == name]
        assert ages.min() >= first
        assert ages.max() <= (0 if first == 0 else first + 15)
    assert (claims["Age"] == 0).mean() == pytest.approx(0.02, abs=0.005)


def test_columns_have_the_shares_of_the_set(claims):
    for name, shares in SHARES.items():
        for value, count in shares.items():
            share = count / sum(shares.values())
            assert (claims[name] == value).mean() == pytest.approx(share, abs=0.012)


def test_fraud_is_where_the_docstring_says(claims):
    fraud = claims[LABEL]
    assert fraud.mean() == pytest.approx(0.06, abs=0.005)
    for column, rates in {
        "BasePolicy": {"Liability": 0.006, "Collision": 0.06, "All Perils": 0.11},
        "Fault": {"Third Party": 0.01, "Policy Holder": 0.08},
        "AddressChange_Claim": {"2 to 3 years": 0.16},
    }.items():
        for value, rate in rates.items():
            found = fraud[claims[column] == value].mean()
            assert found == pytest.approx(rate, abs=0.04 if rate > 0.15 else 0.01)
    assert roc_auc_score(fraud, fraud_probability(claims)) == pytest.approx(0.86, abs=0.015)
