from __future__ import annotations

import math

import pytest

from qtool.search.advice import decibels, verdict
from qtool.search.analysis import LayerAnalysis, Option


def layer(name, fp32, static, error=1e-4, unit=0, **others):
    """``others``: method → (error, us)."""
    options = [
        Option("static", 8, error, math.nan, {1: static}, timed=True),
        *(Option(m, 8, e, math.nan, {1: us}, timed=True) for m, (e, us) in others.items()),
        Option("float", 32, 0.0, 0.0, {1: fp32}, timed=True),
    ]
    return LayerAnalysis(name, "Gemm", "dense", 100, tuple(options), {}, 1.0, 1.0, 0.0, unit)


def test_the_rest_of_the_model_keeps_its_time():
    # Of 100 us two layers of 40 become 10 each: 40 are left.
    layers = [layer("a", 40, 10, unit=0), layer("b", 40, 10, unit=1)]
    found = verdict(layers, {1: 100.0})
    assert found.advice == "quantize"
    assert found.us == {1: pytest.approx(40.0)}
    assert found.error == pytest.approx(2e-4)
    assert "2.50 x FP32 at batch 1" in found.reason
    assert "37 dB" in found.reason


def test_layers_that_seem_to_save_more_than_the_model_takes_leave_their_own_time():
    layers = [layer("a", 70, 10, unit=0), layer("b", 70, 15, unit=1)]
    assert verdict(layers, {1: 100.0}).us == {1: 25.0}


def test_no_gain_keeps_fp32():
    found = verdict([layer("a", 40, 41), layer("b", 2, 1.9, unit=1)], {1: 100.0})
    assert found.advice == "keep FP32"
    assert (found.chosen, found.us, found.error) == ({}, {1: 100.0}, 0.0)
    assert "no gain" in found.reason


def test_a_slow_layer_stays_float():
    found = verdict([layer("a", 40, 10), layer("b", 5, 9, unit=1)], {1: 50.0})
    assert found.advice == "quantize these"
    assert found.chosen == {"a": ("static", 8)}


def test_a_sensitive_layer_gets_the_fastest_treatment_that_keeps_the_outputs():
    sensitive = layer("a", 40, 5, error=0.3, dynamic=(1e-3, 12), weight_only=(1e-5, 20))
    found = verdict([sensitive], {1: 50.0})
    assert found.chosen == {"a": ("dynamic", 8)}
    assert "more than 20 dB allow in a." in found.reason


def test_a_unit_is_decided_as_one():
    layers = [layer("a", 10, 12), layer("b", 40, 10), layer("c", 10, 2, unit=1)]
    found = verdict(layers, {1: 60.0})
    assert set(found.chosen) == {"a", "b", "c"}
    assert found.us[1] == pytest.approx(60 - 28 - 8)
    layers[1] = layer("b", 40, 10, error=0.5)
    assert set(verdict(layers, {1: 60.0}).chosen) == {"c"}


def test_what_is_measured_counts_before_what_is_predicted():
    one = layer("a", 40, 10, error=1e-4)
    option = Option("static", 8, 1e-4, 0.2, {1: 10}, timed=True)
    measured = LayerAnalysis(
        "a", "Gemm", "dense", 1, (option, one.options[-1]), {}, 1.0, 1.0, 0.0, 0
    )
    assert verdict([measured], {1: 50.0}).advice == "keep FP32"


def test_decibels():
    assert decibels(0.01) == pytest.approx(20)
    assert decibels(0.0) == math.inf
    assert math.isnan(decibels(math.nan))
