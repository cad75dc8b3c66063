from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qtool.config.data import GeneratorSource
from qtool.data.generators.credit_clients import (
    BILLS,
    CHUNK_ROWS,
    LABEL,
    PAYMENTS,
    SCHEMA,
    STATUSES,
    CreditClients,
    default_probability,
)
from qtool.data.source import open_source

ROWS = 30_000


def table(source: CreditClients, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def clients() -> dict[str, np.ndarray]:
    made = table(CreditClients(ROWS, seed=7))
    return {name: made[name].to_numpy() for name in SCHEMA.names}


def test_columns_are_those_of_the_uci_set_in_its_order():
    months = ["1", "2", "3", "4", "5", "6"]
    assert SCHEMA.names == [
        *["ID", "LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE"],
        *["PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"],
        *[f"BILL_AMT{month}" for month in months],
        *[f"PAY_AMT{month}" for month in months],
        "default payment next month",
    ]
    made = table(CreditClients(20, seed=7))
    assert made.schema == SCHEMA
    assert set(SCHEMA.types) == {pa.int64()}


def test_a_config_opens_it():
    section = GeneratorSource(generator="credit_clients", rows=10, seed=3)
    assert open_source(section) == CreditClients(rows=10, seed=3)


def test_only_the_columns_asked_for_in_the_order_asked_for():
    batch = next(CreditClients(10, seed=7).batches(["AGE", "ID"], 4))
    assert batch.schema.names == ["AGE", "ID"]
    assert batch.column("ID").to_pylist() == [1, 2, 3, 4]


@settings(max_examples=8, deadline=None)
@given(batch_rows=st.integers(900, 20_000), rows=st.integers(1, CHUNK_ROWS + 700))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(batch_rows, rows):
    longer = table(CreditClients(CHUNK_ROWS + 700, seed=7))
    batches = list(CreditClients(rows, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_another_seed_gives_other_clients_and_chunks_differ():
    limit = table(CreditClients(2 * CHUNK_ROWS, seed=7))["LIMIT_BAL"]
    assert limit != table(CreditClients(2 * CHUNK_ROWS, seed=8))["LIMIT_BAL"]
    assert limit.slice(0, CHUNK_ROWS).to_pylist() != limit.slice(CHUNK_ROWS).to_pylist()


def test_the_fingerprint_changes_with_rows_and_seed():
    sources = [CreditClients(10, 7), CreditClients(11, 7), CreditClients(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert CreditClients(10, 7).fingerprint() == sources[0].fingerprint()


def test_default_probability_of_two_clients_by_hand():
    # Half the limit used, 6,000 / (2,000 + 298,000) = 0.02 paid; at age 36 and limit 140,000
    # the other terms are zero. In time: -3.02 - 0.8 * 0.02 = -3.036.
    # Late: -3.02 + 2.85 * (0.75 + 0.4 * 0.5) + 0.6 * sqrt(1) + 0.3 - 0.2 * 0.02 = 0.5835.
    same = {"LIMIT_BAL": 140_000, "SEX": 2, "EDUCATION": 2, "MARRIAGE": 2, "AGE": 36}
    same |= dict.fromkeys(PAYMENTS, 1_000) | dict.fromkeys(BILLS, 45_600) | {"BILL_AMT1": 70_000}
    values = {name: np.array([value, value]) for name, value in same.items()}
    values |= {name: np.array([0, 0]) for name in STATUSES}
    values |= {"PAY_0": np.array([0, 2]), "PAY_2": np.array([0, 2])}
    expected = 1 / (1 + np.exp([3.036, -0.5835]))
    np.testing.assert_allclose(default_probability(values), expected, rtol=1e-9)


def test_unpaid_debt_is_carried_to_the_next_bill(clients):
    for month in range(5):
        debt = clients[BILLS[month + 1]] - clients[PAYMENTS[month]]
        new = clients[BILLS[month]] - debt
        assert new.min() >= 0  # interest and purchases
        carried = clients[STATUSES[month]] >= 0
        assert (new[carried] > 0).mean() > 0.9


def test_payments_follow_from_status_and_previous_bill(clients):
    for month in range(5):
        status, owed = clients[STATUSES[month]], clients[BILLS[month + 1]]
        paid = clients[PAYMENTS[month]]
        assert owed[status >= 0].min() > 0  # who owes nothing is neither late nor revolving
        in_full = status < 0
        assert (paid[in_full] >= owed[in_full]).all()
        assert (paid <= np.maximum(owed, 0) + 99).all()  # full ones may be rounded up
        assert (paid[status == 0] > 0).all()
        assert 0.3 < (paid[status >= 1] == 0).mean() < 0.45


def test_ranges(clients):
    assert (clients["ID"] == np.arange(1, ROWS + 1)).all()
    for name, codes in {
        "SEX": {1, 2},
        "MARRIAGE": {0, 1, 2, 3},
        "EDUCATION": set(range(7)),
    }.items():
        assert set(np.unique(clients[name])) == codes
    assert (clients["LIMIT_BAL"] % 10_000 == 0).all()
    assert clients["LIMIT_BAL"].min() == 10_000
    assert clients["LIMIT_BAL"].max() <= 1_000_000
    assert clients["AGE"].min() == 21
    assert clients["AGE"].max() == 79
    assert set(np.unique(clients["PAY_0"])) >= {-2, -1, 0, 1, 2, 3, 4}
    for name in STATUSES[1:]:
        assert set(np.unique(clients[name])) <= {-2, -1, 0, 2, 3, 4, 5, 6, 7, 8}
    assert set(np.unique(clients[LABEL])) == {0, 1}


def near(value: float, claimed: float) -> bool:
    """Five standard errors of a share of 30,000 rows, and half a percent for the rounding."""
    return abs(value - claimed) < 0.005 + 5 * np.sqrt(claimed * (1 - claimed) / ROWS)


def test_claimed_shares(clients):
    label, limit, now = clients[LABEL], clients["LIMIT_BAL"], clients["PAY_0"]
    assert near(label.mean(), 0.22)
    assert near((clients["SEX"] == 2).mean(), 0.60)
    for code, share in {1: 0.38, 2: 0.43, 3: 0.17}.items():
        assert near((clients["EDUCATION"] == code).mean(), share)
    assert near((clients["MARRIAGE"] == 1).mean(), 0.45)
    for status, share in {-2: 0.12, -1: 0.20, 0: 0.48, 1: 0.09}.items():
        assert near((now == status).mean(), share)
    for status, rate in {0: 0.13, 1: 0.31, 2: 0.74}.items():
        assert label[now == status].mean() == pytest.approx(rate, abs=0.04)
    assert label[limit < 40_000].mean() == pytest.approx(0.37, abs=0.04)
    assert label[limit >= 300_000].mean() == pytest.approx(0.13, abs=0.03)


def test_claimed_amounts(clients):
    assert clients["LIMIT_BAL"].mean() == pytest.approx(167_000, rel=0.03)
    assert np.median(clients["LIMIT_BAL"]) == 130_000
    assert np.median(clients["AGE"]) == 33
    bill, paid = clients["BILL_AMT1"], clients["PAY_AMT1"]
    assert np.median(bill) == pytest.approx(18_000, rel=0.08)
    assert bill.mean() == pytest.approx(47_000, rel=0.05)
    assert np.quantile(bill, 0.99) == pytest.approx(350_000, rel=0.1)
    assert near((bill < 0).mean(), 0.01)
    assert np.corrcoef(bill, clients["BILL_AMT2"])[0, 1] == pytest.approx(0.94, abs=0.02)
    assert np.median(paid) == pytest.approx(1_700, rel=0.08)
    assert paid.mean() == pytest.approx(6_700, rel=0.1)
    assert np.quantile(paid, 0.99) == pytest.approx(97_000, rel=0.15)
    assert near((paid == 0).mean(), 0.18)


@pytest.mark.parametrize("month", [1, 2, 3, 4])
def test_claimed_moves_of_the_status(clients, month):
    before, after = clients[STATUSES[month + 1]], clients[STATUSES[month]]
    assert (after[before == 0] == 0).mean() == pytest.approx(0.89, abs=0.02)
    assert (after[before == 0] >= 2).mean() == pytest.approx(0.06, abs=0.02)
    assert (after[before == 2] == 2).mean() == pytest.approx(0.66, abs=0.05)
    assert (after <= np.maximum(before, 1) + 1).all()  # a delay grows by one month at a time


def test_risk_shows_in_every_month(clients):
    small, large = clients["LIMIT_BAL"] < 80_000, clients["LIMIT_BAL"] > 250_000
    for status in STATUSES:
        late = clients[status] >= 1
        assert late[small].mean() > late[large].mean() + 0.05
    steady = (clients["PAY_2"] >= 2) & (clients["PAY_6"] >= 2)
    assert steady.mean() > 2 * (clients["PAY_2"] >= 2).mean() * (clients["PAY_6"] >= 2).mean()


def test_trees_beat_logistic_regression_and_stay_below_the_best_possible_auc(clients):
    features = np.column_stack([clients[name] for name in SCHEMA.names[1:-1]]).astype(np.float64)
    label, half = clients[LABEL], slice(0, ROWS // 2)
    rest = slice(ROWS // 2, ROWS)

    def auc(model) -> float:
        fitted = model.fit(features[half], label[half])
        return roc_auc_score(label[rest], fitted.predict_proba(features[rest])[:, 1])

    best = roc_auc_score(label[rest], default_probability(clients)[rest])
    trees = auc(HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, random_state=0))
    linear = auc(make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)))
    assert best == pytest.approx(0.80, abs=0.012)
    assert linear + 0.015 < trees < best
    assert trees > 0.77
