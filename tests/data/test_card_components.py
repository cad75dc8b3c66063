from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis
from sklearn.covariance import EmpiricalCovariance
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest
from sklearn.metrics import roc_auc_score

from qtool.config.data import GeneratorSource
from qtool.data.generators.card_components import (
    CHUNK_ROWS,
    COMPONENTS,
    SCHEMA,
    SECONDS,
    CardComponents,
)
from qtool.data.source import open_source

ROWS = 100_000


def table(source: CardComponents, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def payments() -> dict[str, np.ndarray]:
    made = table(CardComponents(ROWS, seed=7))
    return {name: made[name].to_numpy() for name in SCHEMA.names}


@pytest.fixture(scope="module")
def standardized(payments) -> np.ndarray:
    components = np.stack([payments[name] for name in COMPONENTS], axis=1)
    legitimate = components[payments["Class"] == 0]
    return (components - legitimate.mean(axis=0)) / legitimate.std(axis=0)


def test_a_config_opens_it():
    section = GeneratorSource(generator="card_components", rows=10, seed=3)
    source = open_source(section)
    assert source == CardComponents(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=5, deadline=None)
@given(batch_rows=st.integers(900, 20_000), rows=st.integers(1, CHUNK_ROWS + 700))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = CardComponents(rows, seed=7)
    batches = list(source.batches(["V3", "Class"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["V3", "Class"]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [CardComponents(10, 7), CardComponents(11, 7), CardComponents(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_two_days_in_order(payments):
    time = payments["Time"]
    assert (np.diff(time) >= 0).all()
    assert time[0] < 60
    assert SECONDS - 60 < time[-1] < SECONDS


def test_frauds_are_rare_and_more_frequent_at_night(payments):
    fraud, hour = payments["Class"], payments["Time"] // 3_600 % 24
    night = (hour >= 1) & (hour < 5)
    assert fraud.mean() == pytest.approx(0.01, abs=0.001)
    assert fraud[night].mean() / fraud[~night].mean() == pytest.approx(3, abs=1)


def test_components_are_those_of_the_docstring(payments, standardized):
    legitimate = payments["Class"] == 0
    assert payments["V1"][legitimate].std() == pytest.approx(1.9, abs=0.1)
    assert payments["V28"][legitimate].std() == pytest.approx(0.35, abs=0.03)
    between = np.corrcoef(standardized[legitimate].T)[np.triu_indices(28, 1)]
    assert np.abs(between).max() < 0.1
    assert np.median(kurtosis(standardized[legitimate])) == pytest.approx(13, abs=4)
    square = (standardized[legitimate] ** 2).mean(axis=1)
    assert np.median(square) == pytest.approx(0.7, abs=0.03)
    assert np.quantile(square, 0.99) == pytest.approx(6, abs=1)
    moved = np.median(standardized[~legitimate], axis=0)
    found = [moved[COMPONENTS.index(name)] for name in ("V14", "V17", "V4")]
    assert found == pytest.approx([-7, -7, 3], abs=0.7)


def test_amounts_are_those_of_the_docstring(payments):
    fraud, amount = payments["Class"] == 1, payments["Amount"]
    assert np.median(amount[~fraud]) == pytest.approx(21, abs=1)
    assert amount[~fraud].mean() == pytest.approx(75, abs=6)
    assert (amount[fraud] == 1).mean() == pytest.approx(0.24, abs=0.06)
    assert amount[fraud].mean() == pytest.approx(100, abs=30)
    owed = np.corrcoef(np.log1p(amount[~fraud]), payments["V2"][~fraud])[0, 1]
    assert owed == pytest.approx(-0.44, abs=0.03)


def test_it_is_as_hard_as_the_docstring_says(payments, standardized):
    fraud = payments["Class"]
    first, rest = slice(0, 40_000), slice(60_000, ROWS)
    legitimate = standardized[first][fraud[first] == 0]
    trees = HistGradientBoostingClassifier(learning_rate=0.06, max_leaf_nodes=15, max_iter=60)
    trees.fit(standardized[first], fraud[first])
    forest = IsolationForest(n_estimators=50, random_state=0).fit(legitimate)
    scores = {
        0.98: trees.predict_proba(standardized[rest])[:, 1],
        0.94: EmpiricalCovariance().fit(legitimate).mahalanobis(standardized[rest]),
        0.93: -forest.score_samples(standardized[rest]),
    }
    for claimed, score in scores.items():
        assert roc_auc_score(fraud[rest], score) == pytest.approx(claimed, abs=0.02)
