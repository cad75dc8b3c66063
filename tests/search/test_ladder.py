"""The ladder of plans: worked by hand, and never worse than a plan that it leaves out."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search.analyses import analysis_of, layer

from qtool.search.ladder import ladder

INTEGERS, FLOAT = ("static", 8), ("float", 32)


def test_the_exchange_that_takes_most_error_away_per_time_comes_first():
    # Weightless layers, so that size counts nothing. Slopes: a 0.2 / 0.01 = 20, b 0.3 / 0.1 = 3.
    analysis = analysis_of(
        layer("a", static=(0.1, 0.01), float=(0.3, 0.0)),
        layer("b", static=(0.2, 0.1), float=(0.5, 0.0)),
    )
    rungs = ladder(analysis, fixed=())
    assert [dict(rung.assignment) for rung in rungs] == [
        {"a": INTEGERS, "b": INTEGERS},
        {"a": INTEGERS, "b": FLOAT},
        {"a": FLOAT, "b": FLOAT},
    ]
    # What is no layer takes the other 0.2.
    assert [rung.time for rung in rungs] == pytest.approx([0.5, 0.8, 1.0])
    assert [rung.error for rung in rungs] == pytest.approx([0.11, 0.01, 0.0])
    assert rungs[1].change == "b: float"


def test_a_treatment_above_the_hull_is_left_out():
    # From static to float at once costs 0.2 for 0.1; dynamic would cost 0.19 for 0.05.
    analysis = analysis_of(layer("a", static=(0.1, 0.1), dynamic=(0.29, 0.05), float=(0.3, 0.0)))
    assert [rung.assignment["a"][0] for rung in ladder(analysis, fixed=())] == ["static", "float"]


def test_layers_of_a_unit_move_together_and_to_what_all_of_them_can_be():
    analysis = analysis_of(
        layer("a", unit=0, static=(0.1, 0.1), storage=(0.3, 0.01), float=(0.3, 0.0)),
        layer("b", unit=0, static=(0.1, 0.1), float=(0.3, 0.0)),
    )
    rungs = ladder(analysis, fixed=())
    assert [set(rung.assignment.values()) for rung in rungs] == [{INTEGERS}, {FLOAT}]


def test_what_rules_give_is_not_chosen():
    analysis = analysis_of(
        layer("a", static=(0.1, 0.1), float=(0.3, 0.0)),
        layer("b", static=(0.1, 0.1), float=(0.3, 0.0)),
    )
    assert all(set(rung.assignment) == {"b"} for rung in ladder(analysis, fixed={"a"}))


def test_a_stored_layer_is_worth_its_bytes():
    analysis = analysis_of(layer("a", weights=100, storage=(0.5, 1e-4), float=(0.5, 0.0)))
    assert [rung.assignment["a"][0] for rung in ladder(analysis, fixed=())] == ["storage", "float"]


def test_the_measured_error_goes_before_the_predicted_one():
    analysis = analysis_of(layer("a", measured=0.5, static=(0.1, 0.1), float=(0.3, 0.0)))
    assert ladder(analysis, fixed=())[0].error == 0.5


parts = st.tuples(st.floats(0.01, 1), st.floats(1e-6, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(parts, parts, st.floats(0.01, 1)), min_size=1, max_size=4))
def test_no_plan_is_faster_and_more_exact_than_a_rung(found):
    analysis = analysis_of(
        *(
            layer(str(i), static=static, dynamic=dynamic, float=(time, 0.0))
            for i, (static, dynamic, time) in enumerate(found)
        )
    )
    rungs = ladder(analysis, fixed=())
    errors, times = [r.error for r in rungs], [r.time for r in rungs]
    assert errors == sorted(errors, reverse=True)
    assert times == sorted(times)
    rest = 1 - sum(time for _, _, time in found)
    plans = [
        (rest + sum(time for time, _ in plan), math.fsum(error for _, error in plan))
        for plan in itertools.product(*((s, d, (t, 0.0)) for s, d, t in found))
    ]
    for time, error in zip(times, errors, strict=True):
        assert not any(t < time - 1e-9 and e < error - 1e-9 for t, e in plans)


def test_of_treatments_as_fast_as_each_other_the_most_exact_is_the_fastest():
    # 0.101 cannot be told from 0.1, where the slowest treatment takes 0.3.
    analysis = analysis_of(layer("a", dynamic=(0.1, 0.2), static=(0.101, 0.1), float=(0.3, 0.0)))
    assert [rung.assignment["a"][0] for rung in ladder(analysis, fixed=())] == ["static", "float"]
