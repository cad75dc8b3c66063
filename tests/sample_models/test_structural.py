from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.sample_models import built, prepared

from qtool.data.batch import Batch
from qtool.data.generators import macro_quarters
from qtool.data.generators.macro_quarters import EQUATIONS, LAGS, MEAN, SCHEMA, UNIT, VARIABLES
from sample_models.prepare.structural import SERIES
from sample_models.systems.structural import (
    PATHS,
    interventions,
    levels,
    path_coefficients,
    total_effects,
)

COUNT = len(VARIABLES)
AT = {name: index for index, name in enumerate(VARIABLES)}
INPUTS = {"causes": {"shape": [COUNT]}, "lags": {"shape": [LAGS * COUNT]}}


def some_rows(count):
    values, lags = torch.randn(count, COUNT), torch.randn(count, LAGS * COUNT)
    inputs = {"causes": values.numpy(), "lags": lags.numpy()}
    return Batch(np.arange(count), values.numpy(), inputs)


def predicted_by(model):
    def predict(inputs):
        with torch.no_grad():
            given = {name: torch.from_numpy(np.asarray(part)) for name, part in inputs.items()}
            return {"expected": model(**given).numpy()}

    return predict


def linear(inputs):
    """The equations of the generator without lags and bends."""
    values = np.zeros_like(inputs["causes"])
    for name, equation in EQUATIONS.items():
        for cause, coefficient in equation.paths.items():
            values[:, AT[name]] += coefficient * inputs["causes"][:, AT[cause]]
    return {"expected": values}


@pytest.fixture
def model():
    model = built("structural", INPUTS, hidden=4)
    for layer in (model.linear, model.third):
        torch.nn.init.normal_(layer.weight)
        with torch.no_grad():
            layer.weight *= layer.mask
    return model


def test_untrained_it_expects_the_mean():
    model = built("structural", INPUTS, hidden=4)
    found = model(torch.randn(3, COUNT), torch.randn(3, LAGS * COUNT))
    assert torch.equal(found, torch.zeros(3, COUNT))


def test_an_equation_reads_its_causes_and_nothing_else(model):
    causes = torch.randn(64, COUNT, requires_grad=True)
    lags = torch.randn(64, LAGS * COUNT, requires_grad=True)
    expected = model(causes, lags)
    for name in VARIABLES:
        gradients = torch.autograd.grad(
            expected[:, AT[name]].sum(), (causes, lags), retain_graph=True
        )
        reached = torch.cat(gradients, 1).abs().sum(0).nonzero()[:, 0].tolist()
        assert reached == macro_quarters.read_by(name)


def test_training_gives_weights_to_causes_alone(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        loss = model(torch.randn(64, COUNT), torch.randn(64, LAGS * COUNT)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for layer in (model.linear, model.first, model.second, model.third):
        assert not (layer.weight * (1 - layer.mask)).any()
        assert layer.weight[layer.mask > 0].all()


def test_causes_are_simulated_before_their_effects():
    seen: set[int] = set()
    for level in levels():
        for index in level:
            assert {AT[cause] for cause in EQUATIONS[VARIABLES[index]].paths} <= seen
        seen |= set(level)
    assert seen == set(range(COUNT))


def test_path_coefficients_of_linear_equations_are_their_own():
    found = path_coefficients(linear, some_rows(50), step=1.0)
    expected = [EQUATIONS[name].paths[cause] for cause, name in PATHS]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["oil", "policy"])
def test_total_effects_of_linear_equations_are_the_inverse(name):
    found = total_effects(linear, some_rows(20), [name], step=2.0, quarters=1)
    paths = np.zeros((COUNT, COUNT))
    for effect, equation in EQUATIONS.items():
        for cause, coefficient in equation.paths.items():
            paths[AT[effect], AT[cause]] = coefficient
    paths[AT[name]] = 0  # the intervention cuts what leads to it
    # Bollen 1989, equation 8.15: total effects are (I - B)^-1.
    expected = 2.0 * np.delete(np.linalg.inv(np.eye(COUNT) - paths)[:, AT[name]], AT[name])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_later_quarters_follow_from_lags():
    def only_lag(inputs):
        expected = np.zeros_like(inputs["causes"])
        expected[:, AT["loans"]] = 0.5 * inputs["lags"][:, AT["loans"]]
        expected[:, AT["loans"]] += inputs["causes"][:, AT["policy"]]
        return {"expected": expected}

    found = total_effects(only_lag, some_rows(8), ["policy"], step=1.0, quarters=3)
    of_loans = found[AT["loans"] - 1]  # without policy itself
    assert of_loans == pytest.approx(1 + 0.5 + 0.25, rel=1e-5)


def test_the_same_model_drifts_nowhere(model):
    predict = predicted_by(model)
    found = interventions(predict, predict, some_rows(16), ["oil"], 1.0, 2)
    for name, (fp32, int8) in found.items():
        assert np.isfinite(fp32).all()
        if name != "simulations_per_second":
            np.testing.assert_array_equal(fp32, int8)
    assert found["path_coefficient"][0].shape == (len(PATHS),)
    assert found["total_effect"][0].shape == (COUNT - 1,)
    assert not found["path_drift"][1].any()


def test_on_linear_data_path_coefficients_are_semopys(monkeypatch):
    pytest.importorskip("semopy")
    from sample_models.baselines.structural import semopy_paths

    monkeypatch.setattr(macro_quarters, "BENDS", ())
    panel = macro_quarters.make_panel.__wrapped__(3, 0)[:62]
    made = macro_quarters.quarter_batch([""] * panel.shape[1], np.zeros(60, "datetime64[D]"), panel)
    causes, lags = (
        torch.from_numpy(made[name].flatten().to_numpy().reshape(made.num_rows, -1).copy())
        for name in ("causes", "lags")
    )
    model = built("structural", INPUTS, hidden=2)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = torch.nn.functional.mse_loss(model(causes, lags), causes)
        error.backward()
        return error

    optimizer.step(loss)
    rows = Batch(np.arange(len(causes)), None, {"causes": causes.numpy(), "lags": lags.numpy()})
    found = path_coefficients(predicted_by(model), rows, step=1.0)
    known = semopy_paths(torch.cat([causes, lags], 1).double().numpy())
    expected = [known[name, cause] for cause, name in PATHS]
    np.testing.assert_allclose(found, expected, atol=0.03)
    assert np.abs(found - expected).mean() < 0.01


def test_structural_reads_fred_qd(monkeypatch, tmp_path):
    dates = np.arange(np.datetime64("2018-03"), np.datetime64("2023-01"), 3).astype(
        "datetime64[ns]"
    )
    count = len(dates)
    random = np.random.default_rng(0)
    columns = {series: 100 * np.exp(random.normal(0, 0.01, count).cumsum())
               for series in SERIES.values()}  # fmt: skip
    columns["AHETPIx"][1] = np.nan
    pq.write_table(pa.table({"date": dates, **columns}), tmp_path / "qd.parquet")
    found = prepared(monkeypatch, tmp_path, "structural", tmp_path / "qd.parquet")
    assert found.schema.equals(SCHEMA)
    # Changes from the third date on are known, each row needs three; 2020 is left out, and what
    # has it among its lags.
    assert found["quarter"].to_pylist() == [
        "2019Q2", "2019Q3", "2019Q4",
        "2021Q3", "2021Q4", "2022Q1", "2022Q2", "2022Q3", "2022Q4",
    ]  # fmt: skip
    row = found.to_pylist()[0]
    output, rate = columns["GDPC1"], columns["FEDFUNDS"]
    for at, change in (
        (AT["output"], 100 * np.log(output[5] / output[4])),
        (AT["policy"], rate[5] - rate[4]),
    ):
        assert row["values"][at] == pytest.approx((change - MEAN[at]) / UNIT[at], rel=1e-4)
    change = 100 * np.log(output[4] / output[3])
    at = AT["output"]
    assert row["lags"][at] == pytest.approx((change - MEAN[at]) / UNIT[at], rel=1e-4)
