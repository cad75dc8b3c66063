from __future__ import annotations

import dataclasses

import numpy as np
from support.graphs import mlp
from support.quantizing import parameters_for, relative_error, run

from qtool.calibration.saturation import avoid_saturation
from qtool.config.quantization import StaticQuantization
from qtool.graph.parameters import Range, derive
from qtool.graph.writing.writer import write
from qtool.numerics.affine import quantize
from qtool.numerics.saturation import saturating_sums

SECTION = StaticQuantization(method="static", observer={"method": "min_max"})


def planted(rows):
    """Three layers, of which the second has a pair of large weights behind units that are large
    together."""
    model = mlp()
    constants = model.graph.initializers
    first = constants["w0"].const_value.numpy().copy()
    first[:, 1] = first[:, 0]
    second = constants["w1"].const_value.numpy().copy()
    second *= 0.5
    second[0, :4] = second[1, :4] = 0.9
    for name, array in (("w0", first), ("w1", second)):
        value = constants[name]
        value.const_value = type(value.const_value)(array, name=name)
    bias = constants["b0"].const_value.numpy().copy()
    bias[:2] = 6.0  # both units are always near the top of the range
    constants["b0"].const_value = type(constants["b0"].const_value)(bias, name="b0")
    return parameters_for(model, rows, SECTION, target="x86_avx2")


def known_ranges(parameters):
    found = {}
    for name, params in parameters.activations.items():
        zero, scale = params.zero_point.astype(np.float32), params.scale
        low, high = -zero * scale, (255 - zero) * scale
        shape = np.atleast_1d(low)
        found[name] = Range(shape, np.atleast_1d(high), np.ones(len(shape)))
    return found


def test_only_the_planted_layer_gets_seven_bits():
    rows = {"x": np.random.default_rng(5).standard_normal((256, 8)).astype(np.float32)}
    model, plan, parameters = planted(rows)
    safe = avoid_saturation(model, plan, known_ranges(parameters), rows)
    bits = {name: weight.spec.bits for name, weight in safe.weights.items()}
    assert bits == {"w0": 8, "w1": 7, "w2": 8}
    (reason,) = [node.reason for node in safe.nodes if "7-bit" in node.reason]
    assert "int16 pair sums saturate on calibration rows" in reason


def test_seven_bits_lose_less_than_half_a_decibel():
    rows = {"x": np.random.default_rng(5).standard_normal((256, 8)).astype(np.float32)}
    model, plan, parameters = planted(rows)
    ranges = known_ranges(parameters)
    safe = avoid_saturation(model, plan, ranges, rows)
    expected = run(model, rows)
    errors = [
        relative_error(run(write(model, p, derive(model, p, ranges), {}), rows), expected)
        for p in (plan, safe)
    ]
    assert 20 * np.log10(errors[1] / errors[0]) < 0.5


def test_no_pair_sum_saturates_afterwards():
    rows = {"x": np.random.default_rng(5).standard_normal((256, 8)).astype(np.float32)}
    model, plan, parameters = planted(rows)
    ranges = known_ranges(parameters)
    safe = avoid_saturation(model, plan, ranges, rows)
    numbers = derive(model, safe, ranges)
    weight = quantize(numbers.constants["w1"], numbers.weights["w1"])
    assert saturating_sums(np.full((1, len(weight)), 255, np.uint8), weight) == 0


def test_targets_with_vnni_keep_their_plan():
    rows = {"x": np.zeros((1, 8), np.float32)}
    model, plan, parameters = planted(
        {"x": np.random.default_rng(5).standard_normal((64, 8)).astype(np.float32)}
    )
    vnni = dataclasses.replace(plan, target="x86_vnni")
    assert avoid_saturation(model, vnni, known_ranges(parameters), rows) is vnni
