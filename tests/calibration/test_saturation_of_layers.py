from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
from support.graphs import mlp
from support.quantizing import parameters_for, relative_error, run

from qtool.calibration.saturation import avoid_saturation
from qtool.config.quantization import StaticQuantization
from qtool.graph.parameters import Range, derive
from qtool.graph.plan import Plan
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
    second, third = (constants[name].const_value.numpy().copy() for name in ("w1", "w2"))
    second *= 0.5
    for weight in (first, second, third):
        weight[1::2] = 0  # no pair has two large weights
    second[0, :4] = second[1, :4] = 0.9
    bias = constants["b0"].const_value.numpy().copy()
    bias[:2] = 6.0  # both units are always near the top of the range
    for name, array in (("w0", first), ("w1", second), ("w2", third), ("b0", bias)):
        constants[name].const_value = ir.tensor(array, name=name)
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
    narrow = {name: weight.narrow for name, weight in safe.weights.items()}
    assert narrow == {"w0": (), "w1": (0, 1, 2, 3), "w2": ()}
    assert Plan.from_json(safe.to_json(), "plan.json") == safe
    (reason,) = [node.reason for node in safe.nodes if "saturate" in node.reason]
    assert reason.endswith(
        "int16 pair sums of 4 of 32 outputs saturate on calibration rows: "
        "one scale each, 7 bits in 4"
    )


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
    largest = np.full((1, len(weight)), 255, np.uint8)
    assert not saturating_sums(largest, weight)[list(safe.weights["w1"].narrow)].any()


def test_targets_with_vnni_keep_their_plan():
    rows = {"x": np.zeros((1, 8), np.float32)}
    model, plan, parameters = planted(
        {"x": np.random.default_rng(5).standard_normal((64, 8)).astype(np.float32)}
    )
    vnni = dataclasses.replace(plan, target="x86_vnni")
    assert avoid_saturation(model, vnni, known_ranges(parameters), rows) is vnni
