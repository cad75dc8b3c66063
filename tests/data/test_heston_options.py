from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from qtool.config.data import GeneratorSource
from qtool.data.generators.heston import (
    Market,
    black_price,
    characteristic_function,
    implied_volatility,
    put_prices,
)
from qtool.data.generators.heston_options import (
    REACH,
    SCHEMA,
    SMILE,
    WORTHLESS,
    HestonOptions,
)
from qtool.data.source import open_source

ROWS = 8_000


def table(source: HestonOptions, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


def market(**parameters: float) -> Market:
    return Market(**{name: np.array([value]) for name, value in parameters.items()})


@pytest.fixture(scope="module")
def options():
    made = table(HestonOptions(ROWS, seed=7))
    return {name: made[name].to_numpy().astype(np.float64) for name in SCHEMA.names}


# Fang and Oosterlee 2008, table 4 (T = 1) and table 5 (T = 10): calls on 100 at 100, no rate.
FANG = {"v0": 0.0175, "kappa": 1.5768, "theta": 0.0398, "sigma": 0.5751, "rho": -0.5711}


@pytest.mark.parametrize(("maturity", "price"), [(1.0, 5.785155450), (10.0, 22.318945791)])
def test_published_prices(maturity, price):
    at_the_money = put_prices(market(**FANG), np.array([maturity]), np.zeros((1, 1)))
    # Puts and calls at the forward cost the same.
    assert 100 * at_the_money.item() == pytest.approx(price, abs=2e-6)


def test_without_volatility_of_variance_it_is_black():
    maturity, log_strike = np.array([0.7]), np.array([[-0.4, -0.1, 0.0, 0.2, 0.5]])
    still = market(v0=0.09, kappa=2.0, theta=0.04, sigma=1e-3, rho=-0.7)
    expected = np.sqrt(0.04 + 0.05 * (1 - np.exp(-1.4)) / 1.4)
    total = np.full(log_strike.shape, expected * np.sqrt(0.7))
    black = black_price(total, log_strike, np.zeros(log_strike.shape, bool))
    np.testing.assert_allclose(put_prices(still, maturity, log_strike), black, atol=1e-4 * expected)


@settings(max_examples=25, deadline=None)
@given(
    v0=st.floats(0.0016, 0.36),
    theta=st.floats(0.0016, 0.36),
    kappa=st.floats(0.5, 5),
    ratio=st.floats(0.5, 2),
    rho=st.floats(-0.9, 0.4),
    maturity=st.floats(1 / 12, 2),
    reach=st.floats(-2, 2),
)
def test_prices_are_those_of_another_integral(v0, theta, kappa, ratio, rho, maturity, reach):
    # In one market the two are not far apart, as in the generator.
    v0 = theta * (v0 / theta) ** 0.4
    sigma = ratio * np.sqrt(2 * kappa * theta)
    one = market(v0=v0, kappa=kappa, theta=theta, sigma=sigma, rho=rho)
    t = np.array([maturity])
    log_strike = reach * float(np.sqrt(one.mean_variance(t) * t)[0])

    # Lewis 2001, "A simple option formula for general jump-diffusion", equation 3.11.
    def integrand(u: float) -> float:
        value = characteristic_function(one, t, np.array([[u - 0.5j]]))[0, 0]
        return float((value * np.exp(-1j * u * log_strike)).real / (u * u + 0.25))

    integral, _ = quad(integrand, 0, np.inf, limit=1000, epsabs=1e-9)
    call = 1 - np.exp(log_strike / 2) / np.pi * integral
    put = put_prices(one, t, np.array([[log_strike]])).item()
    # Put-call parity, over the forward.
    assert call - put == pytest.approx(1 - np.exp(log_strike), abs=2e-5)


@given(volatility=st.floats(0.02, 1.5), maturity=st.floats(0.05, 3), reach=st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_the_implied_volatility_gives_the_price_back(volatility, maturity, reach):
    total = np.array([volatility * np.sqrt(maturity)])
    log_strike = reach * total
    price = black_price(total, log_strike, log_strike > 0)
    found = implied_volatility(price, log_strike, np.array([maturity]))
    assert found.item() == pytest.approx(volatility, rel=1e-6)


def test_a_config_opens_it():
    source = open_source(GeneratorSource(generator="heston_options", rows=10, seed=3))
    assert source == HestonOptions(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(100, 5_000), rows=st.integers(1, 5_000))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    batches = list(HestonOptions(rows, 7).batches(["smile", "implied_vol"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    more = table(HestonOptions(6_000, 7)).select(["smile", "implied_vol"])
    assert made.equals(more.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [HestonOptions(10, 7), HestonOptions(11, 7), HestonOptions(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_rows_of_a_smile_are_strikes_of_one_market(options):
    states = ("smile", "maturity", "v0", "kappa", "theta", "sigma", "rho", "rate", "spot_return")
    for name in states:
        smiles = options[name].reshape(-1, SMILE)
        assert (smiles == smiles[:, :1]).all()
    assert np.unique(options["smile"]).tolist() == list(range(ROWS // SMILE))
    inner = Market(*(options[name] for name in ("v0", "kappa", "theta", "sigma", "rho")))
    unit = np.sqrt(inner.mean_variance(options["maturity"]) * options["maturity"])
    log_strike = options["log_moneyness"] - options["rate"] * options["maturity"]
    assert np.abs(log_strike / unit).max() < REACH + 1e-4
    total = options["implied_vol"] / 100 * np.sqrt(options["maturity"])
    assert black_price(total, log_strike, log_strike > 0).min() > 0.99 * WORTHLESS


def test_statistics_are_those_of_the_docstring(options):
    inner = Market(*(options[name] for name in ("v0", "kappa", "theta", "sigma", "rho")))
    expected = 100 * np.sqrt(inner.mean_variance(options["maturity"]))
    assert expected.min() > 4
    assert expected.max() < 60
    assert np.median(expected) == pytest.approx(16, abs=1)
    low, high = np.quantile(options["implied_vol"] / expected, [0.01, 0.99])
    assert (low, high) == (pytest.approx(0.64, abs=0.03), pytest.approx(1.35, abs=0.03))
    away = np.abs(options["implied_vol"] - expected).mean()
    assert away == pytest.approx(1.9, abs=0.15)
    reaches = options["sigma"] ** 2 > 2 * options["kappa"] * options["theta"]
    assert reaches.mean() == pytest.approx(0.5, abs=0.05)
    moves = (options["spot_return"] / np.sqrt(options["v0"] / 12))[::SMILE]
    assert moves.std() == pytest.approx(1.0, abs=0.15)
    assert (np.abs(moves) > 3).mean() == pytest.approx(0.014, abs=0.008)
    assert options["rate_change"].std() == pytest.approx(0.004, abs=0.001)
