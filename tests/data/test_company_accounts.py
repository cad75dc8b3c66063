from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from qtool.config.data import GeneratorSource
from qtool.data.generators.chunks import random_stream
from qtool.data.generators.company_accounts import (
    CHUNK_ROWS,
    GAPS,
    LARGEST,
    RATIOS,
    SCHEMA,
    CompanyAccounts,
    as_table,
    bankruptcy_probability,
    make_accounts,
    ratios,
)
from qtool.data.source import open_source

ROWS = 5 * CHUNK_ROWS


def table(source: CompanyAccounts, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def companies() -> dict[str, np.ndarray]:
    made = table(CompanyAccounts(ROWS, seed=7))
    return {name: made[name].to_numpy() for name in SCHEMA.names}


def test_a_config_opens_it():
    section = GeneratorSource(generator="company_accounts", rows=10, seed=3)
    source = open_source(section)
    assert source == CompanyAccounts(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(900, 9_000), rows=st.integers(1, CHUNK_ROWS + 700))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(batch_rows, rows):
    columns = ["Attr27", "class"]
    batches = list(CompanyAccounts(rows, seed=7).batches(columns, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    longer = table(CompanyAccounts(CHUNK_ROWS + 700, seed=7)).select(columns)
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [CompanyAccounts(10, 7), CompanyAccounts(11, 7), CompanyAccounts(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_ratios_of_one_company_by_hand():
    amounts = {
        "assets": 1_000, "sales": 2_000, "liabilities": 500, "longer": 0, "shorter": 500,
        "fixed": 400, "current": 600, "inventory": 200, "receivables": 300, "cash": 100,
        "operating": 100, "depreciation": 40, "interest": 20, "gross": 80, "net": 60,
        "before": 1_600, "gross_of_years": np.nan, "equity": 500, "capital": 100, "retained": 50,
        "selling": 110, "costs": 1_890, "expenses": 1_900,
    }  # fmt: skip
    found = ratios({name: np.array([float(value)]) for name, value in amounts.items()})
    assert list(found) == list(RATIOS)
    expected = {1: 0.06, 2: 0.5, 3: 0.1, 4: 1.2, 8: 1, 13: 0.06, 20: 36.5, 21: 1.25, 27: 5,
                28: 0.25, 29: 3, 30: 0.2, 41: 500 / (140 * 365 / 12), 46: 0.8, 53: 1.25, 55: 100,
                60: 10}  # fmt: skip
    for number, value in expected.items():
        assert found[f"Attr{number}"] == pytest.approx(value)
    made = as_table(found, np.zeros(1, np.int8)).to_pylist()[0]
    assert (made["Attr1"], made["Attr20"], made["Attr29"]) == pytest.approx((6, 36.5, 3))
    assert (made["Attr37"], made["missing_37"], made["missing_24"]) == (None, 1, 1)
    assert sum(made[f"missing_{number}"] for number in GAPS) == 2


def test_accounts_agree_with_each_other():
    a = make_accounts(random_stream(7, 0))
    np.testing.assert_allclose(a["equity"] + a["liabilities"], a["assets"])
    np.testing.assert_allclose(
        a["inventory"] + a["receivables"] + a["cash"] + a["fixed"], a["assets"]
    )
    assert (a["cash"] > 0).all()
    assert (a["shorter"] > 0).all()
    assert (a["costs"] > 0).all()


def test_statistics_are_those_of_the_docstring(companies):
    bankrupt = companies["class"] == 1
    assert bankrupt.mean() == pytest.approx(0.08, abs=0.01)
    shares = {37: 0.41, 27: 0.065, 45: 0.043, 21: 0.016}
    for number, share in shares.items():
        missing = np.isnan(companies[f"Attr{number}"])
        assert missing.mean() == pytest.approx(share, abs=0.008)
        np.testing.assert_array_equal(missing, companies[f"missing_{number}"] == 1)
    for number, share in {27: 0.26, 21: 0.78}.items():
        assert bankrupt[companies[f"missing_{number}"] == 1].mean() == pytest.approx(share, abs=0.1)
    medians = {1: 4.5, 2: 45, 9: 160, 20: 33, 44: 50}
    for number, median in medians.items():
        assert np.median(companies[f"Attr{number}"]) == pytest.approx(median, rel=0.06)
    assert np.quantile(companies["Attr19"], 0.01) == pytest.approx(-36, abs=6)
    for name in RATIOS:
        assert np.nanmax(np.abs(companies[name])) <= LARGEST


def test_trees_stay_below_the_best_possible_auc(companies):
    features = np.column_stack([companies[name] for name in RATIOS])
    label, first, rest = companies["class"], slice(0, 15_000), slice(15_000, ROWS)
    trees = HistGradientBoostingClassifier(
        learning_rate=0.1, max_iter=40, max_leaf_nodes=15, random_state=0
    )
    trees.fit(features[first], label[first])
    reached = roc_auc_score(label[rest], trees.predict_proba(features[rest])[:, 1])
    chunks = [make_accounts(random_stream(7, chunk)) for chunk in range(ROWS // CHUNK_ROWS)]
    true = np.concatenate([bankruptcy_probability(accounts) for accounts in chunks])
    best = roc_auc_score(label[rest], true[rest])
    assert best == pytest.approx(0.957, abs=0.012)
    assert 0.915 < reached < best
