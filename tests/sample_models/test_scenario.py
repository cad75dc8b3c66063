from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators.heston import Market, implied_volatility, put_prices
from qtool.data.generators.heston_options import MONTH, OPTION, SCHEMA, SMILE, HestonOptions
from sample_models.prepare.scenario import UNDERLYINGS, moving_variance
from sample_models.systems.scenario import K, compare, risk, shocked

POSITIONS = 10


def rows_of(count: int) -> Batch:
    made = pa.Table.from_batches(HestonOptions(count, 7).batches(SCHEMA.names, count))
    option = np.stack([made[name].to_numpy() for name in OPTION], axis=1)
    months = {name: made[name].to_numpy().astype(np.float64) for name in MONTH}
    return Batch(np.arange(count), None, {"option": option}, months)


def closed_form(options):
    log_moneyness, maturity, rate, *parameters = options.T
    log_strike = log_moneyness - rate * maturity
    puts = put_prices(Market(*parameters), maturity, log_strike[:, None])[:, 0]
    prices = np.where(log_strike > 0, puts + 1 - np.exp(log_strike), puts)
    return 100 * implied_volatility(np.maximum(prices, 1e-9), log_strike, maturity)


def expected_volatility(options):
    _, maturity, _, *parameters = options.T
    return 100 * np.sqrt(Market(*parameters).mean_variance(maturity))


def test_what_is_not_learned_is_the_expected_volatility():
    model = built("scenario", {"option": {"shape": [8]}}, hidden=[8, 8])
    torch.nn.init.zeros_(model.smile.weight)
    torch.nn.init.zeros_(model.smile.bias)
    options = rows_of(64).inputs["option"]
    with torch.no_grad():
        found = model(torch.from_numpy(options))
    assert found.shape == (64, 1)
    expected = expected_volatility(options.astype(np.float64))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_the_unit_of_time_changes_no_total_volatility():
    model = built("scenario", {"option": {"shape": [8]}}, hidden=[8, 8])
    options = torch.tensor([[0.1, 0.5, 0.02, 0.04, 1.5, 0.06, 0.4, -0.5]])
    # Years of half the length: twice as many of them, rates and variances of half the size.
    halved = options * torch.tensor([1, 2, 0.5, 0.5, 0.5, 0.5, 0.5, 1])
    with torch.no_grad():
        torch.testing.assert_close(model(halved) * 2**0.5, model(options))


def test_scenarios_move_spot_rate_and_variances():
    option = np.array([[0.1, 0.5, 0.02, 0.12, 1.5, 0.06, 0.4, -0.5]])
    moved, growth = shocked(
        option, np.array([0.0, -2.0]), np.array([0.0, 0.6]), np.array([0, 0.01])
    )
    np.testing.assert_array_equal(moved[0], option)
    # The month's deviation is 10 %: the spot falls by 20 %, and the strike is as far above it.
    np.testing.assert_allclose(growth[:, 0], [1, np.exp(-0.2)])
    expected = [0.3, 0.5, 0.03, 0.12 * np.exp(0.6), 1.5, 0.06 * np.exp(0.3), 0.4, -0.5]
    np.testing.assert_allclose(moved[1, 0], expected)


def test_equal_models_have_equal_risks():
    rows = rows_of(20 * SMILE)

    def model(inputs):
        return {"output": expected_volatility(inputs["option"].astype(np.float64))[:, None]}

    figures = risk(model, model, rows, POSITIONS)
    assert set(figures) == {"var_99", "expected_shortfall", "scenarios_per_second"}
    for name in ("var_99", "expected_shortfall"):
        fp32, int8 = figures[name]
        assert fp32.shape == (16,)
        np.testing.assert_array_equal(fp32, int8)
    assert (figures["expected_shortfall"][0] >= figures["var_99"][0]).all()
    assert figures["scenarios_per_second"][0].item() > 0


def test_risk_grows_with_the_positions_moves_and_volatility_errors_show():
    rows = rows_of(20 * SMILE)
    figures = compare(closed_form, lambda options: closed_form(options) * 1.02, rows, POSITIONS, 0)
    for name in ("var_99", "expected_shortfall"):
        exact, wrong = figures[name]
        assert (exact > 0).all()
        # 2 % more volatility everywhere moves the risk of books of options a little.
        assert 0 < np.abs(exact - wrong).mean() < 0.1 * exact.mean()


def test_a_spot_that_falls_by_hand():
    # One put sold at the forward: its loss is what its price rises by.
    option = np.array([[0.0, 1.0, 0.0, 0.04, 2.0, 0.04, 0.3, -0.5]] * SMILE, np.float32)
    months = {name: np.zeros(SMILE) for name in MONTH} | {"spot_return": np.full(SMILE, -0.1)}
    rows = Batch(np.arange(SMILE), None, {"option": option}, months)
    found = compare(expected_volatility, expected_volatility, rows, 1, seed=1)
    quantity = np.random.default_rng(1).standard_normal(SMILE)
    # Black's formula with 20 %: puts at 100 on spots of 100 and of 100 exp(-0.1).
    before, after = 0.0796557, 0.1326968
    expected = 100 * -np.sign(quantity) * (after / before - 1)
    np.testing.assert_allclose(found["var_99"][0], expected, rtol=1e-4)
    assert option[0, K] == 0


def test_moving_variances_by_hand():
    returns = np.array([0.1] * 24 + [0.3])
    variance = moving_variance(returns)
    assert variance[:25] == pytest.approx(0.12)
    assert variance[25] == pytest.approx(12 * (0.9 * 0.01 + 0.1 * 0.09))


def test_it_reads_fred_md(monkeypatch, tmp_path):
    months = np.arange("1973-01", "1979-01", dtype="datetime64[M]").astype("datetime64[ms]")
    walk = np.random.default_rng(0).normal(0, 0.03, (len(months), len(UNDERLYINGS))).cumsum(axis=0)
    panel = dict(zip(UNDERLYINGS, np.exp(walk).T, strict=True))
    panel |= {"date": months, "TB3MS": np.linspace(4, 8, len(months))}
    pq.write_table(pa.table(panel), tmp_path / "fred_md.parquet")
    found = prepared(monkeypatch, tmp_path, "scenario", tmp_path / "fred_md.parquet")
    assert found.schema.equals(SCHEMA)
    # 59 months since February 1974, of five underlyings, five smiles each.
    assert found.num_rows == 58 * 5 * 5 * SMILE
    rates = found["rate"].to_numpy()
    assert (rates.min(), rates.max()) == (
        pytest.approx(0.0473, abs=1e-3),
        pytest.approx(0.08, abs=1e-3),
    )
    assert np.isfinite(found["implied_vol"].to_numpy()).all()
