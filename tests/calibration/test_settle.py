from __future__ import annotations

import numpy as np
import pytest
from support.graphs import fraud_like, fraud_rows, mlp

from qtool.calibration.calibrate import observe
from qtool.calibration.settle import settle_columns
from qtool.config.quantization import StaticQuantization
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.numerics.observers import min_max
from qtool.progress import SilentProgress


def settled(model, rows):
    prepared = prepare(model)
    section = StaticQuantization(method="static")
    plan = make_plan(prepared, "sha", section, TARGETS["x86_amx"])
    histograms = observe(prepared, plan, [rows], 1, SilentProgress())
    return plan, *settle_columns(prepared, plan, histograms, min_max)


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
