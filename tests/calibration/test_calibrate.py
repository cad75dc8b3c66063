from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import fraud_like, fraud_rows, mlp

from qtool.calibration.calibrate import observe, ranges
from qtool.config.quantization import MinMaxObserver, MseObserver, StaticQuantization
from qtool.errors import DataError
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress

ROWS = fraud_rows(500)


@pytest.fixture(scope="module")
def model():
    return prepare(fraud_like())


@pytest.fixture(scope="module")
def plan(model):
    return planned(model)


def planned(model):
    return make_plan(model, "sha", StaticQuantization(method="static"), TARGETS["x86_amx"])


def pieces(rows, cuts):
    edges = [0, *sorted(cuts), len(next(iter(rows.values())))]
    for start, end in pairwise(edges):
        yield {name: array[start:end] for name, array in rows.items()}


def observed(model, plan, batches):
    return observe(model, plan, batches, 500, SilentProgress())


def check_same(plan, found, expected):
    """Inputs of the graph are equal to the last bit, what the runtime computes to its rounding.

    It may add up a GEMM in another order for another number of rows.
    """
    observe_mse = observer(MseObserver(method="mse"))
    left, right = ranges(plan, found, observe_mse), ranges(plan, expected, observe_mse)
    assert left.keys() == right.keys()
    for name, histogram in expected.items():
        assert histogram.total.tolist() == found[name].total.tolist()
        tolerance = 0 if name in ROWS else 1e-5
        for key, value in vars(right[name]).items():
            np.testing.assert_allclose(vars(left[name])[key], value, rtol=tolerance)


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 499), max_size=6))
def test_batches_do_not_matter(model, plan, cuts):
    check_same(plan, observed(model, plan, pieces(ROWS, cuts)), observed(model, plan, [ROWS]))


def test_one_row_at_a_time(model, plan):
    by_row = observed(model, plan, pieces(ROWS, range(1, 500)))
    check_same(plan, by_row, observed(model, plan, [ROWS]))


def test_the_order_of_rows_does_not_matter(model, plan):
    turned = {name: array[::-1].copy() for name, array in ROWS.items()}
    check_same(plan, observed(model, plan, [turned]), observed(model, plan, [ROWS]))


def test_what_is_observed_is_what_the_plan_names(model, plan):
    found = observed(model, plan, [ROWS])
    assert list(found) == list(plan.activations)
    for name, spec in plan.activations.items():
        assert (len(found[name].low) > 1) == (spec.axis == 1)


def test_min_max_and_mean_square_by_hand():
    model = prepare(mlp())
    plan = planned(model)
    rows = {"x": np.random.default_rng(2).standard_normal((40, 8)).astype(np.float32)}
    histograms = observe(model, plan, [rows], 40, SilentProgress())
    found = ranges(plan, histograms, observer(MinMaxObserver(method="min_max")))
    weights = {name: value.const_value.numpy() for name, value in mlp().graph.initializers.items()}
    first = np.maximum(rows["x"] @ weights["w0"] + weights["b0"], 0)
    second = np.maximum(first @ weights["w1"] + weights["b1"], 0)
    inputs, *hidden = found.values()
    np.testing.assert_array_equal(inputs.low, np.minimum(rows["x"].min(axis=0), 0))
    np.testing.assert_array_equal(inputs.high, np.maximum(rows["x"].max(axis=0), 0))
    for activation, array in zip(hidden, (first, second), strict=True):
        assert activation.low.tolist() == [0]
        np.testing.assert_allclose(activation.high, [array.max()], rtol=1e-5)
        # A bin is at most 1/512 of the largest value wide.
        bound = 2 * array.max() ** 2 / 512
        assert abs(activation.mean_square.item() - (array**2).mean()) < bound


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_input_is_named_by_tensor_batch_and_row(model, plan, value):
    rows = {name: array.copy() for name, array in ROWS.items()}
    rows["numeric"][321, 4] = value
    with pytest.raises(DataError, match=r"tensor '.*', batch 3, row 321: NaN or infinity"):
        observed(model, plan, pieces(rows, [100, 200, 300, 400]))


def test_an_activation_that_overflows_is_named():
    model = prepare(mlp())
    rows = {"x": np.ones((20, 8), np.float32)}
    rows["x"][13] = np.finfo(np.float32).max
    with pytest.raises(DataError, match=r"tensor '(?!x')[^']+', batch 1, row 13: NaN or infinity"):
        observe(model, planned(model), pieces(rows, [10]), 20, SilentProgress())


def test_progress_counts_rows(model, plan):
    seen = []

    class Watched(SilentProgress):
        def task(self, description, total=None):
            seen.append((description, total))
            return Task()

    class Task:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def advance(self, amount=1, status=""):
            seen.append(amount)

    observe(model, plan, pieces(ROWS, [200, 450]), 500, Watched())
    assert seen == [("calibrate", 500), 200, 250, 50]
