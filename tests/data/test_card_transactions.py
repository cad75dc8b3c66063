from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from qtool.data.generators.card_transactions import SCHEMA, CardTransactions
from qtool.data.generators.payments import CHUNK_ROWS, DAYS, START, make_chunk
from qtool.data.generators.population import CATEGORIES, MERCHANTS, make_merchants

ROWS = 200_000
NUMERIC = [
    "amount",
    "amount_to_card_average",
    "transactions_24h",
    "minutes_since_last",
    "distance_from_home_km",
    "hour_of_day",
    "device_age_days",
    "card_age_days",
    "declines_24h",
]


def read(rows: int, seed: int, batch_rows: int = 50_000) -> pa.Table:
    batches = CardTransactions(rows, seed).batches(SCHEMA.names, batch_rows)
    return pa.Table.from_batches(batches, SCHEMA)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return read(ROWS, 7)


@pytest.fixture(scope="module")
def probability() -> np.ndarray:
    merchants = make_merchants(7)
    chunks = range(-(-ROWS // CHUNK_ROWS))
    return np.concatenate([make_chunk(ROWS, 7, chunk, merchants)[1] for chunk in chunks])


def test_same_rows_and_seed_same_data_for_any_batch_size(table: pa.Table) -> None:
    small = read(40_000, 3, 999)
    assert small.equals(read(40_000, 3, 10**6))
    assert not small.equals(read(40_000, 4))
    assert small.num_rows == 40_000
    assert table.num_rows == ROWS


def test_columns_come_alone_as_they_come_together(table: pa.Table) -> None:
    batches = CardTransactions(ROWS, 7).batches(["channel", "amount"], 10**6)
    assert pa.Table.from_batches(batches).equals(table.select(["channel", "amount"]))


def test_no_missing_or_infinite_value(table: pa.Table) -> None:
    assert all(table[name].null_count == 0 for name in table.column_names)
    assert np.isfinite(np.stack([table[name].to_numpy() for name in NUMERIC])).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fraud_rate_of_other_seeds(seed: int) -> None:
    assert 0.008 < np.mean(read(60_000, seed)["is_fraud"].to_numpy()) < 0.013


def test_fraud_rate(table: pa.Table, probability: np.ndarray) -> None:
    fraud = table["is_fraud"].to_numpy()
    assert 0.009 < fraud.mean() < 0.011
    assert abs(fraud.mean() - probability.mean()) < 4 * np.sqrt(0.01 / ROWS)
    mcc = table["mcc"].to_numpy()
    assert set(mcc) == {category.mcc for category in CATEGORIES}
    assert probability[mcc == 5411].mean() < 0.006
    assert probability[mcc == 4829].mean() > 0.03


def test_amounts_have_heavy_tails(table: pa.Table) -> None:
    amount = table["amount"].to_numpy()
    assert 25 < np.median(amount) < 33
    assert 60 < amount.mean() < 80
    assert np.quantile(amount, 0.999) > 1_500
    # Hill's estimate of the tail index among the largest ratios: Pareto with 1.5.
    ratio = np.sort(table["amount_to_card_average"].to_numpy())[-100:]
    assert 1.1 < 1 / np.log(ratio[1:] / ratio[0]).mean() < 1.9


def test_merchants_follow_zipf_and_have_one_category_and_country(table: pa.Table) -> None:
    counts = np.sort(np.bincount(table["merchant_id"].to_numpy(), minlength=MERCHANTS))[::-1]
    assert 0.15 < counts[0] / ROWS < 0.19
    slope = np.polyfit(np.log(np.arange(1, 101)), np.log(counts[:100]), 1)[0]
    assert slope == pytest.approx(-1.1, abs=0.05)
    pairs = table.group_by(["merchant_id", "mcc", "merchant_country"]).aggregate([])
    assert pairs.num_rows == len(pc.unique(table["merchant_id"]))


def test_time_runs_through_the_period_with_quiet_nights(table: pa.Table) -> None:
    seconds = table["timestamp"].cast(pa.int64()).to_numpy()
    assert (np.diff(seconds) >= 0).all()
    assert seconds[0] >= START
    assert seconds[-1] < START + DAYS * 86_400
    assert seconds[-1] > START + (DAYS - 1) * 86_400
    hours = np.bincount(table["hour_of_day"].to_numpy(), minlength=24)
    assert hours[12] > 5 * hours[3]
    np.testing.assert_array_equal(pc.hour(table["timestamp"]), table["hour_of_day"])


def test_drift(table: pa.Table, probability: np.ndarray) -> None:
    device = table["device_age_days"].to_numpy()
    online = pc.equal(table["channel"], "online").to_numpy()
    new = online & (device < 4)
    testing = online & (table["amount"].to_numpy() < 4)
    testing &= table["transactions_24h"].to_numpy() >= 4
    first = np.arange(ROWS) < ROWS // 2
    log_odds = np.log(probability / (1 - probability))
    assert log_odds[new & first].mean() > log_odds[new & ~first].mean() + 0.2
    assert log_odds[testing & first].mean() < log_odds[testing & ~first].mean() - 0.5
    amount = np.log(table["amount"].to_numpy())
    growth = amount[ROWS * 9 // 10 :].mean() - amount[: ROWS // 10].mean()
    assert growth == pytest.approx(np.log(1.04) * 0.9, abs=0.03)


def test_interactions_need_more_than_a_linear_model(
    table: pa.Table, probability: np.ndarray
) -> None:
    label = table["is_fraud"].to_numpy()
    numbers = np.stack([table[name].to_numpy() for name in NUMERIC], axis=1).astype(np.float64)
    skewed = [0, 1, 3, 4, 6, 7]
    numbers[:, skewed] = np.log1p(numbers[:, skewed])
    texts = [table[name] for name in ("mcc", "merchant_country", "channel", "card_product")]
    flags = [pc.equal(text, word).to_numpy() for text in texts for word in pc.unique(text)]
    features = np.concatenate([numbers, np.stack(flags, axis=1)], axis=1).astype(np.float32)
    train = np.arange(ROWS) % 10 < 6
    test = np.arange(ROWS) % 10 >= 7

    def auc(model: object) -> float:
        model.fit(features[train], label[train])
        return float(roc_auc_score(label[test], model.predict_proba(features[test])[:, 1]))

    best = roc_auc_score(label, probability)
    linear = auc(make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)))
    trees = auc(
        HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=12, random_state=0
        )
    )
    assert 0.94 < best < 0.965
    assert linear < 0.91
    assert linear + 0.025 < trees < best
