from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support.graphs import fraud_like, fraud_rows, mlp
from support.quantizing import run

from qtool.calibration.calibrate import observe, ranges
from qtool.calibration.settle import settle_columns
from qtool.config.quantization import StaticQuantization
from qtool.graph.parameters import derive
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.numerics.observers import min_max, mse
from qtool.progress import SilentProgress


def settled(model, rows, choice="auto", observer=min_max):
    prepared = prepare(model)
    section = StaticQuantization(method="static")
    plan = make_plan(prepared, "sha", section, TARGETS["x86_amx"])
    histograms = observe(prepared, plan, [rows], 1, SilentProgress())
    return plan, *settle_columns(prepared, plan, histograms, observer, choice)


@pytest.mark.parametrize(("spread", "axis"), [(1, None), (1000, 1)])
def test_column_scales_stay_only_where_they_pay(spread, axis):
    x = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    x[:, 0] *= spread
    plan, chosen, histograms = settled(mlp(), {"x": x})
    assert plan.activations["x"].axis == 1
    assert chosen.activations["x"].axis == axis
    assert chosen.weights["w0"].folds == (None if axis is None else "x")
    assert len(histograms["x"].histogram.low) == (1 if axis is None else 8)


def test_inputs_with_tables_keep_their_columns():
    plan, chosen, _ = settled(fraud_like(), fraud_rows(500))
    assert chosen == plan


@pytest.mark.parametrize(("choice", "axis"), [("shared", None), ("separate", 1)])
@pytest.mark.parametrize("spread", [1, 1000])
def test_the_configuration_decides_before_the_gain_does(choice, axis, spread):
    x = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    x[:, 0] *= spread
    _, chosen, histograms = settled(mlp(), {"x": x}, choice)
    assert chosen.activations["x"].axis == axis
    assert len(histograms["x"].histogram.low) == (1 if axis is None else 8)


def test_tables_keep_their_columns_whatever_is_chosen():
    plan, chosen, _ = settled(fraud_like(), fraud_rows(500), "shared")
    assert chosen == plan


def amount_beside_flags(rows, seed):
    """Column 0 is an amount in cents, log-normal over five powers of ten, the others are flags."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 2, (rows, 8)).astype(np.float32)
    x[:, 0] = np.exp(generator.normal(np.log(3000), 1.5, rows))
    return {"x": x}


def reading_both():
    """A network to which the largest amounts count as much as a flag."""
    model = mlp()
    weight = model.graph.initializers["w0"].const_value.numpy().copy()
    weight[0] /= 1e5
    model.graph.initializers["w0"].const_value = ir.tensor(weight, name="w0")
    return model


@pytest.mark.parametrize("observer", [min_max, mse])
def test_one_scale_destroys_the_flags_beside_an_amount(observer):
    seen, rows = amount_beside_flags(4000, 0), amount_beside_flags(4000, 1)
    flips = {}
    for choice in ("shared", "separate", "auto"):
        model = prepare(reading_both())
        _, plan, histograms = settled(model, seen, choice, observer)
        parameters = derive(model, plan, ranges(plan, histograms, observer))
        fp32, int8 = run(model, rows), run(write(model, plan, parameters, {}), rows)
        threshold = np.median(fp32)
        flips[choice] = float(((fp32 > threshold) != (int8 > threshold)).mean())
    assert flips["shared"] > 0.2
    assert flips["separate"] == flips["auto"] < 0.02, flips
