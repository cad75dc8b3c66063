from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hmmlearn.hmm import GaussianHMM
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators.market_regimes import DAYS, SCHEMA, make_asset
from sample_models.prepare.regimes import STRIDE, features_of, gaussian_hmm
from sample_models.regimes import regime_loss
from sample_models.systems.regimes import filtering

REGIMES, FEATURES = 3, 4


def model_of(days=16, **arguments):
    inputs = {"window": {"shape": [days, FEATURES]}}
    return built("regimes", inputs, channels=8, layers=2, **arguments)


@pytest.fixture
def hmm():
    random = np.random.default_rng(5)
    model = GaussianHMM(REGIMES, covariance_type="diag")
    model.n_features = FEATURES
    model.startprob_ = random.dirichlet(np.ones(REGIMES))
    model.transmat_ = random.dirichlet(np.ones(REGIMES), REGIMES) * 0.2 + 0.8 * np.eye(REGIMES)
    model.means_ = random.normal(0, 0.6, (REGIMES, FEATURES))
    model.covars_ = random.uniform(0.3, 2.0, (REGIMES, FEATURES))
    return model


def with_emissions_of(model, hmm):
    with torch.no_grad():
        model.head.weight.zero_()
        deviations = np.sqrt(hmm.covars_.diagonal(axis1=1, axis2=2))
        bias = np.stack([hmm.means_, np.log(deviations)]).reshape(-1)
        model.head.bias.copy_(torch.from_numpy(bias))
        model.transition.copy_(torch.from_numpy(np.log(hmm.transmat_)))
        model.start.copy_(torch.from_numpy(np.log(hmm.startprob_)))
    return model


@pytest.mark.parametrize(("days", "dtype", "tolerance"), [
    (1, torch.float64, 1e-9), (2, torch.float64, 1e-9), (64, torch.float64, 1e-9),
    (64, torch.float32, 1e-5),
])  # fmt: skip
def test_with_normal_emissions_it_is_the_filter_of_hmmlearn(hmm, days, dtype, tolerance):
    model = with_emissions_of(model_of(days).to(dtype), hmm)
    windows = np.stack([hmm.sample(days, random_state=seed)[0] for seed in range(8)])
    with torch.no_grad():
        joint = model(torch.from_numpy(windows).to(dtype)).double()
    # On the last day the smoothed probabilities are the filtered ones.
    expected = [hmm.predict_proba(window)[-1] for window in windows]
    np.testing.assert_allclose(joint.softmax(1), expected, atol=tolerance)
    scores = [hmm.score(window) for window in windows]
    np.testing.assert_allclose(joint.logsumexp(1), scores, rtol=tolerance)


def test_two_days_by_hand():
    model = model_of(2)
    with torch.no_grad():
        model.transition.copy_(
            torch.log(torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0, 0, 1]]))
        )
        model.start.copy_(torch.log(torch.tensor([0.5, 0.5, 0.0])))
        densities = torch.tensor([[[0.2, 0.4, 0.9], [0.1, 0.3, 0.5]]])
        joint = model.filtered(densities.log()).exp()
    # The first day: 0.1 and 0.2.
    expected = [[0.1 * (0.08 + 0.04), 0.3 * (0.01 + 0.12), 0.5 * (0.01 + 0.04)]]
    np.testing.assert_allclose(joint, expected, rtol=1e-5)


def test_the_emissions_of_a_day_know_the_days_before_it_only():
    model = model_of(16)
    torch.nn.init.normal_(model.head.weight)
    observed = torch.randn(1, FEATURES, 16)
    changed = observed.clone()
    changed[..., 9] += 1
    with torch.no_grad():
        difference = (model.emissions(changed) - model.emissions(observed)).abs().amax((0, 1))
    assert (difference[:10] == 0).all()
    assert (difference[10:16] > 0).all()


def test_the_loss_by_hand():
    joint = torch.log(torch.tensor([[0.2, 0.1, 0.1], [0.1, 0.3, 0.1]]))
    loss = regime_loss({"o": joint}, torch.tensor([0, 1]), {"window": torch.zeros(2, 5, 4)}, 0.5)
    entropy = -(np.log(0.5) + np.log(0.6)) / 2
    likelihood = (np.log(0.4) + np.log(0.5)) / 2 / 5
    assert loss.item() == pytest.approx(entropy - 0.5 * likelihood, rel=1e-6)


def test_figures_are_of_assets():
    joints = {
        "fp32": np.log([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2], [0.3, 0.1, 0.1]]),
        "int8": np.log([[0.4, 0.5, 0.1], [0.1, 0.7, 0.2], [0.3, 0.1, 0.1]]),
    }
    rows = Batch(
        np.arange(3),
        None,
        {"window": np.zeros((3, 5, FEATURES), np.float32)},
        {"asset": np.array(["b", "b", "a"], object)},
    )
    fp32, int8 = (lambda inputs, name=name: {"o": joints[name]} for name in joints)
    found = filtering(fp32, int8, rows)
    np.testing.assert_allclose(found["regime_agreement"], [[1, 1], [1, 0.5]])
    np.testing.assert_allclose(found["log_likelihood"][0], [np.log(0.5) / 5, 0], atol=1e-12)
    np.testing.assert_allclose(found["log_likelihood"][1], [np.log(0.5) / 5, 0], atol=1e-12)


def test_regimes_are_ordered_by_the_range():
    features = [make_asset(7, asset, 300)[0].astype(np.float64) for asset in range(8)]
    model = gaussian_hmm(features)
    assert (np.diff(model.means_[:, 2]) > 0).all()
    np.testing.assert_allclose(model.transmat_.sum(axis=1), 1)
    assert (model.transmat_.argmax(axis=1) == np.arange(REGIMES)).all()


def test_features_by_hand():
    bars = np.array(
        [[10, 12, 9, 11, 100], [11, 11, 11, 11, 200], [22, 44, 11, 33, 400], [33, 40, 33, 36, 50]],
        np.float64,
    )
    found = features_of(bars, learned=2)
    total = np.log([1, 3])
    np.testing.assert_allclose(found[:, 0] * total.std(), np.log([1, 2, 1]), atol=1e-12)
    np.testing.assert_allclose(found[:, 1] * total.std(), np.log([1, 1.5, 36 / 33]), atol=1e-12)
    # A day without a range has the smallest one; both are less the mean of the first two.
    ranges = np.log([1e-4, np.log(4), np.log(40 / 33)])
    np.testing.assert_allclose(found[:, 2], ranges - ranges[:2].mean())
    volumes = np.log([200, 400, 50])
    np.testing.assert_allclose(found[:, 3], volumes - volumes[:2].mean())


def test_it_reads_daily_bars(monkeypatch, tmp_path):
    days, random = 2 * DAYS + 5, np.random.default_rng(0)
    parts = []
    for name in ("AA", "B", "CC"):
        close = 50 * np.exp(random.normal(0, 0.01, days).cumsum())
        spread = np.exp(np.abs(random.normal(0, 0.01, (2, days))))
        parts.append({
            "date": np.datetime64("2013-02-08", "ms") + 86_400_000 * np.arange(days),
            "open": close, "high": close * spread[0], "low": close / spread[1], "close": close,
            "volume": random.integers(1, 9, days), "Name": [name] * days,
        })  # fmt: skip
    # Too short to learn from.
    parts.append({key: values[-DAYS:] for key, values in parts[0].items()} | {"Name": ["D"] * DAYS})
    pq.write_table(pa.concat_tables(map(pa.table, parts)), tmp_path / "bars.parquet")
    found = prepared(monkeypatch, tmp_path, "regimes", tmp_path / "bars.parquet")
    assert found.schema.equals(SCHEMA)
    assert set(found["asset"].to_pylist()) == {"AA", "B", "CC"}
    assert found.num_rows == 3 * (1 + (days - 1 - DAYS) // STRIDE)
    assert set(found["regime"].to_pylist()) <= {0, 1, 2}
