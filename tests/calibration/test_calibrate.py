from __future__ import annotations

import dataclasses
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graphs import fraud_like, fraud_rows, mlp

from qtool.calibration.calibrate import merged, observe, ranges
from qtool.config.quantization import (
    EntropyObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MseObserver,
    PercentileObserver,
    StaticQuantization,
)
from qtool.errors import DataError
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress

ROWS = fraud_rows(500)
SECTIONS = (
    MinMaxObserver(method="min_max"),
    MovingAverageObserver(method="moving_average"),
    PercentileObserver(method="percentile"),
    EntropyObserver(method="entropy"),
    MseObserver(method="mse"),
)


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
    """Checks that ranges and statistics are equal to the last bit."""
    left, right = (
        {name: dataclasses.asdict(seen) for name, seen in each.items()}
        for each in (found, expected)
    )
    assert left.keys() == right.keys() == set(plan.calibrated)
    for name in expected:
        np.testing.assert_equal(left[name], right[name])
    for section in SECTIONS:
        left, right = (ranges(plan, each, observer(section)) for each in (found, expected))
        for name in expected:
            np.testing.assert_equal(vars(left[name]), vars(right[name]))


@settings(max_examples=15, deadline=None)
@given(st.sets(st.integers(1, 499), max_size=6))
def test_batches_do_not_matter(model, plan, cuts):
    check_same(plan, observed(model, plan, pieces(ROWS, cuts)), observed(model, plan, [ROWS]))


def test_one_row_at_a_time(model, plan):
    by_row = observed(model, plan, pieces(ROWS, range(1, 500)))
    check_same(plan, by_row, observed(model, plan, [ROWS]))


def test_the_order_of_rows_does_not_matter(model, plan):
    turned = {name: array[::-1].copy() for name, array in ROWS.items()}
    found, expected = (observed(model, plan, [rows]) for rows in (turned, ROWS))
    for section in SECTIONS:
        if section.method == "moving_average":  # its blocks are those of neighbouring rows
            continue
        left, right = (ranges(plan, each, observer(section)) for each in (found, expected))
        for name in plan.calibrated:
            np.testing.assert_allclose(left[name].high, right[name].high, rtol=1e-6)
            np.testing.assert_allclose(left[name].low, right[name].low, rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.integers(1, 499), min_size=7, max_size=7, unique=True),
    st.randoms(use_true_random=False),
)
def test_eight_shards_in_any_order_are_one(model, plan, cuts, random):
    edges = [0, *sorted(cuts), 500]
    shards = [
        observe(model, plan, [piece], 500, SilentProgress(), first_row=start)
        for start, piece in zip(edges, pieces(ROWS, cuts), strict=False)
    ]
    random.shuffle(shards)
    check_same(plan, reduce(merged, shards), observed(model, plan, [ROWS]))


def test_what_is_observed_is_what_the_plan_names(model, plan):
    found = observed(model, plan, [ROWS])
    assert tuple(found) == plan.calibrated
    for name, spec in plan.activations.items():
        assert (len(found[name].histogram.low) > 1) == (spec.axis == 1)


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
        # A bin is at most 1/1024 of the largest value wide.
        bound = 2 * array.max() ** 2 / 1024
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
    assert seen[0] == ("calibrate", 500)
    assert sum(seen[1:]) == 500


def test_batches_without_rows_are_passed_over(model, plan):
    none = {name: array[:0] for name, array in ROWS.items()}
    batches = [none, *pieces(ROWS, [100]), none]
    check_same(plan, observed(model, plan, batches), observed(model, plan, [ROWS]))


@pytest.mark.parametrize("batches", [[], [{name: array[:0] for name, array in ROWS.items()}]])
def test_no_rows_are_an_error(model, plan, batches):
    with pytest.raises(DataError, match=r"calibration: no rows; expected at least one"):
        observed(model, plan, batches)


def test_one_row_is_enough(model, plan):
    found = observed(model, plan, pieces({n: a[:1] for n, a in ROWS.items()}, []))
    for section in SECTIONS:
        for name, known in ranges(plan, found, observer(section)).items():
            assert (known.low <= 0).all(), name
            assert (known.high >= 0).all(), name
            if name in ROWS:
                np.testing.assert_array_equal(known.high, np.maximum(ROWS[name][0], 0))


def test_rows_that_are_all_alike_give_ranges(model, plan):
    same = {name: np.repeat(array[:1], 300, axis=0) for name, array in ROWS.items()}
    found, one = observed(model, plan, [same]), observed(model, plan, pieces(same, [1]))
    check_same(plan, found, one)


def test_a_graph_without_planned_activations_reads_no_rows(model, plan):
    def never():
        raise AssertionError
        yield

    none = dataclasses.replace(plan, activations={})
    assert observed(model, none, never()) == {}
