from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from support.graphs import fraud_like, fraud_rows, mlp

from qtool.calibration.calibrate import observe, ranges
from qtool.config.quantization import StaticQuantization
from qtool.evaluation.layer_errors import _Line, layer_errors
from qtool.graph.parameters import derive
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress


def line(x, q, axis=None):
    found = _Line()
    half = len(x) // 2
    for part in (slice(0, half), slice(half, None)):
        found.add(np.asarray(x, np.float32)[part], np.asarray(q)[part], axis)
    return found.ratio_db()


def test_by_hand():
    # Codes 0 and 1 for pairs of values one apart: variance 4.25 + 0.25 of noise.
    x, q = [0.0, 1.0, 10.0, 11.0], [0, 0, 1, 1]
    assert line(x, q) == pytest.approx(10 * math.log10(np.var(x) / 0.25))


def test_scale_and_zero_point_do_not_matter():
    random = np.random.default_rng(0)
    x = random.normal(size=1000)
    q = np.rint(20 * x)
    assert line(x, q) == pytest.approx(line(x, 3 * q + 40))
    assert line(x, q) == pytest.approx(10 * math.log10(np.var(x) * 400 * 12), abs=0.3)


def test_columns_have_lines_of_their_own():
    x = np.array([[0.0, 100.0], [1.0, 300.0], [2.0, 200.0]])
    q = np.array([[0, 10], [50, 30], [100, 20]], np.uint8)
    assert line(x, q, axis=1) > 100
    assert line(x, q) < 20


def test_equal_values_have_no_ratio():
    assert math.isnan(line([1.0, 1.0], [3, 3]))


def errors(model, rows, bits):
    prepared = prepare(model)
    section = StaticQuantization(method="static")
    plan = make_plan(prepared, "", section, TARGETS["x86_amx"])
    activations = {n: dataclasses.replace(s, bits=bits) for n, s in plan.activations.items()}
    plan = dataclasses.replace(plan, activations=activations)
    seen = observe(prepared, plan, [rows], 1, SilentProgress())
    parameters = derive(prepared, plan, ranges(plan, seen, observer(section.observer)))
    found = layer_errors(prepared, write(prepared, plan, parameters, {}), plan, [rows])
    assert [error.name for error in found[:-1]] == list(plan.activations)
    return [error.sqnr_db for error in found]


@pytest.mark.parametrize("model", ["fraud", "quantized input"])
def test_fewer_bits_are_seen_in_every_layer(model):
    rows = fraud_rows(300)
    given = fraud_like(), rows
    if model == "quantized input":
        given = mlp(), {"x": np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)}
    fine, coarse = errors(*given, 8), errors(*given, 5)
    assert len(fine) > 2
    assert all(a > b + 6 for a, b in zip(fine, coarse, strict=True))
