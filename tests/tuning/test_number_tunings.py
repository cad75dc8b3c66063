"""Tunings of numbers from end to end: every layer at its own criterion, and the written model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.cells import cell
from support.graphs import (
    attention,
    fraud_like,
    fraud_rows,
    mlp,
    residual_convolutions,
    sequence_dense,
)
from support.quantizing import parameters_for, relative_error, run

from qtool.config.quantization import (
    DynamicQuantization,
    LayerRule,
    StaticQuantization,
    StorageQuantization,
    WeightOnlyQuantization,
)
from qtool.config.tuning import AdaRound, ClipWeights, CorrectBias, Gptq
from qtool.data.blocks import read_blocks
from qtool.data.encoder_file import encoder_from_json
from qtool.data.generators.card_transactions import CardTransactions
from qtool.errors import ConfigError, DataError
from qtool.graph.model_file import constant, read_model
from qtool.graph.parameters import fold, planned_params, with_constants
from qtool.graph.writing.writer import write
from qtool.progress import SilentProgress
from qtool.tuning.adaround import adaround
from qtool.tuning.clip_weights import clip_weights
from qtool.tuning.correct_bias import correct_bias
from qtool.tuning.gptq import gptq

SAMPLE_MODELS = Path(__file__).parents[2] / "sample_models"
STATIC = StaticQuantization(method="static", per_channel=True)
ONE_SCALE = StaticQuantization(method="static")
DYNAMIC = DynamicQuantization(method="dynamic")
STORAGE = StorageQuantization(method="storage")
BLOCKS = WeightOnlyQuantization(method="weight_only", bits=4, block_size=16)
TUNINGS = {
    "clip_weights": lambda *given, **options: clip_weights(
        *given[:3], ClipWeights(method="clip_weights", **options), *given[3:]
    ),
    "gptq": lambda *given, **options: gptq(
        *given[:3], Gptq(method="gptq", **options), *given[3:]
    ),
    "adaround": lambda *given, **options: adaround(
        *given[:3], AdaRound(method="adaround", steps=200, **options), *given[3:]
    ),
    "correct_bias": lambda *given, **options: correct_bias(
        *given[:3], CorrectBias(method="correct_bias", **options), *given[3:]
    ),
}  # fmt: skip
ROUNDING = ("clip_weights", "gptq", "adaround")


def normal(*shape, seed=0):
    """Rows whose columns move together, as columns of real tables do."""
    generator = np.random.default_rng(seed)
    mixed = generator.standard_normal((shape[-1], shape[-1])) / np.sqrt(shape[-1])
    return (generator.standard_normal(shape) @ mixed).astype(np.float32)


CASES = {
    "column scales": (fraud_like(), fraud_rows(600), STATIC),
    "one scale": (mlp(), {"x": normal(600, 8)}, ONE_SCALE),
    "sequence": (sequence_dense(activation="Relu"), {"x": normal(300, 5, 16)}, STATIC),
    "dynamic": (sequence_dense(activation="Relu"), {"x": normal(300, 5, 16)}, DYNAMIC),
    "blocks": (sequence_dense(activation="Relu"), {"x": normal(300, 5, 16)}, BLOCKS),
    "stored": (sequence_dense(activation="Relu"), {"x": normal(300, 5, 16)}, STORAGE),
    "convolutions": (residual_convolutions(), {"x": normal(300, 4, 20)}, STATIC),
}


def four_bits(model, rows, section):
    """Returns (prepared graph, plan, parameters), with weights of 4 bits but in tables."""
    model, plan, parameters = parameters_for(model, rows, section)
    weights = {
        name: replace(weight, spec=replace(weight.spec, bits=4))
        for name, weight in plan.weights.items()
    }
    plan = replace(plan, weights=weights)
    params = {
        name: planned_params(
            fold(parameters.constants[name], weight.folds, parameters.activations), weight
        )
        for name, weight in weights.items()
    }
    return model, plan, replace(parameters, weights=params)


def batches(inputs):
    def rows(count):
        yield {name: array[:count] for name, array in inputs.items()}

    return rows


def tune(names, case, rows, **options):
    """Returns the numbers after several tunings, and the records of the last."""
    model, plan, parameters = case
    records = []
    for name in names:
        parameters, records = TUNINGS[name](
            model, plan, parameters, batches(rows), SilentProgress(), **options
        )
    return parameters, records


def written(case, parameters):
    model, plan, _ = case
    return write(model, plan, parameters, {})


@pytest.mark.parametrize("name", TUNINGS)
@pytest.mark.parametrize("case", CASES)
def test_no_layer_gets_worse_at_its_criterion(name, case):
    _, rows, _ = CASES[case]
    quantized = four_bits(*CASES[case])
    _, records = tune([name], quantized, rows)
    layers = [node.name for node in quantized[1].nodes if node.treatment != "unchanged"]
    assert {record.layer for record in records} <= set(layers)
    for record in records:
        assert record.method == name
        assert record.after <= record.before
        assert bool(record.reason) == (record.after == record.before)
    assert any(not record.reason for record in records)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["clip_weights"], 0.95),
        (["gptq"], 0.8),
        (["adaround"], 0.8),
        (["gptq", "correct_bias"], 0.8),
    ],
)
@pytest.mark.parametrize("case", ["column scales", "sequence", "dynamic", "blocks", "convolutions"])
def test_the_written_model_is_nearer_to_fp32(names, left, case):
    model, rows, _ = CASES[case]
    quantized = four_bits(*CASES[case])
    expected = run(model, rows)
    before = relative_error(run(written(quantized, quantized[2]), rows), expected)
    parameters, _ = tune(names, quantized, rows)
    assert relative_error(run(written(quantized, parameters), rows), expected) < left * before


@pytest.mark.parametrize("name", ["gptq", "adaround"])
def test_a_real_sample_model_wins_on_rows_that_were_not_seen(name):
    """The trained fraud model, weights of 4 bits: at least 6 dB, three quarters of the error."""
    text = (SAMPLE_MODELS / "fraud.encoder.json").read_text(encoding="utf-8")
    encoder = encoder_from_json(text, "test")
    source = CardTransactions(rows=4000, seed=11)
    names = [field.name for field in source.schema]
    seen, unseen = (encoder.encode(block) for block in read_blocks(source, names, 2000))
    model = read_model(SAMPLE_MODELS / "fraud.onnx")
    quantized = four_bits(model, seen, STATIC)
    expected = run(model, unseen)
    errors = [
        relative_error(run(written(quantized, parameters), unseen), expected)
        for parameters in (quantized[2], tune([name], quantized, seen)[0])
    ]
    assert errors[0] > 2 * errors[1]


def test_layers_behind_make_up_for_what_layers_before_lost():
    """Only the last layer is tuned, and the outputs come nearer to FP32 than its weights can."""
    _, rows, _ = CASES["one scale"]
    quantized = four_bits(*CASES["one scale"])
    model, plan, parameters = quantized
    last = [node.name for node in plan.nodes if node.op_type == "Gemm"][-1]
    fine = replace(plan.weights["w2"], spec=replace(plan.weights["w2"].spec, bits=8))
    plan = replace(plan, weights={**plan.weights, "w2": fine})
    params = planned_params(parameters.constants["w2"], fine)
    parameters = replace(parameters, weights={**parameters.weights, "w2": params})
    quantized = model, plan, parameters
    found, (record,) = tune(["gptq"], quantized, rows, match=last)
    assert record.after < 0.5 * record.before
    expected = run(model, rows)
    assert relative_error(run(written(quantized, found), rows), expected) < 0.8 * relative_error(
        run(written(quantized, parameters), rows), expected
    )


@pytest.mark.parametrize("case", ["column scales", "sequence", "dynamic", "blocks", "convolutions"])
def test_corrected_biases_bring_back_the_means_of_fp32(case):
    _, rows, _ = CASES[case]
    quantized = four_bits(*CASES[case])
    model, plan, parameters = quantized
    found, records = tune(["correct_bias"], quantized, rows)
    gaps = []
    for numbers in (parameters, found):
        difference = run(written(quantized, numbers), rows) - run(model, rows)
        axes = (0, 2) if case == "convolutions" else tuple(range(difference.ndim - 1)) or 0
        gaps.append(np.abs(difference.mean(axis=axes)).max() / np.abs(difference).max())
    assert gaps[1] < 0.5 * gaps[0]
    changed = {n for n in found.constants if (found.constants[n] != parameters.constants[n]).any()}
    assert changed
    assert all(name in plan.biases or "b" in name for name in changed)
    assert found.weights == parameters.weights
    assert any(not record.reason for record in records)


def test_correcting_again_changes_nothing_more():
    _, rows, _ = CASES["sequence"]
    quantized = four_bits(*CASES["sequence"])
    once, _ = tune(["correct_bias"], quantized, rows)
    twice, _ = tune(["correct_bias"] * 2, quantized, rows)
    for name, array in once.constants.items():
        np.testing.assert_allclose(twice.constants[name], array, atol=1e-6)


def test_only_matched_layers_change():
    _, rows, _ = CASES["sequence"]
    quantized = four_bits(*CASES["sequence"])
    found, records = tune(["gptq"], quantized, rows, match="up*")
    assert [record.layer for record in records] == ["up"]
    before = quantized[2].constants
    assert {n for n in before if (found.constants[n] != before[n]).any()} == {"w0"}
    assert found.activations is quantized[2].activations


def test_what_cannot_be_tuned_says_why():
    rules = [LayerRule(match="head", method="float")]
    section = StaticQuantization(method="static", layers=rules)
    case = parameters_for(fraud_like(), fraud_rows(300), section)
    _, records = tune(["gptq"], case, fraud_rows(300))
    reasons = {record.layer: record.reason for record in records}
    assert reasons["head"] == "it stays in float"
    assert reasons["table.0"].startswith("a lookup adds nothing up")
    assert not reasons["body.0"]
    rows = {"x": normal(100, 6, 32)}
    products = [LayerRule(match="scores", method="static"), LayerRule(match="mix", method="static")]
    case = parameters_for(attention(), rows, StaticQuantization(method="static", layers=products))
    for name, text in (("gptq", "has no weight"), ("correct_bias", "adds no bias")):
        _, records = tune([name], case, rows)
        assert text in {record.layer: record.reason for record in records}["scores"]


def test_layers_without_a_bias_say_so():
    rows = {"x": normal(100, 5, 16)}
    case = parameters_for(sequence_dense(bias=False), rows, STATIC)
    _, records = tune(["correct_bias"], case, rows)
    assert {r.layer: r.reason for r in records} == {"up": "it has no bias", "down": ""}
    steps = {"x": normal(40, 5, 6)}
    case = parameters_for(cell(), steps, DYNAMIC)
    _, (record,) = tune(["correct_bias"], case, steps)
    assert "gates" in record.reason


@pytest.mark.parametrize("name", TUNINGS)
def test_a_glob_that_matches_no_layer_is_a_config_error(name):
    case = parameters_for(*CASES["one scale"])
    with pytest.raises(ConfigError, match=r"quantization\.tuning"):
        tune([name], case, CASES["one scale"][1], match="nowhere*")


@pytest.mark.parametrize("name", TUNINGS)
def test_no_calibration_rows_are_a_data_error(name):
    case = parameters_for(*CASES["one scale"])
    with pytest.raises(DataError, match="no rows"):
        tune([name], case, {"x": np.zeros((0, 8), np.float32)})


def test_rounding_starts_from_the_fp32_weights_whatever_came_before():
    _, rows, _ = CASES["sequence"]
    quantized = four_bits(*CASES["sequence"])
    once, first = tune(["gptq"], quantized, rows)
    again, second = tune(["gptq", "gptq"], quantized, rows)
    assert [r.before for r in second] <= [r.before for r in first]
    for name in ("w0", "w1"):
        np.testing.assert_array_equal(again.constants[name], once.constants[name])


def test_a_clipped_scale_still_holds_the_bias_in_int32():
    rows = {"x": normal(400, 8)}
    model = mlp()
    model = with_constants(model, {"b1": np.full(32, 3e4, np.float32)})
    quantized = four_bits(model, rows, STATIC)
    found, _ = tune(["clip_weights"], quantized, rows)
    scale = found.activations["a0"].scale * found.weights["w1"].scale
    assert (3e4 / scale <= 2.0**30 * 1.001).all()


def test_codes_of_a_tuned_model_are_in_the_file():
    _, rows, _ = CASES["convolutions"]
    quantized = four_bits(*CASES["convolutions"])
    model, plan, parameters = quantized
    found, _ = tune(["gptq"], quantized, rows)
    int8 = written(quantized, found)
    codes = constant(int8.graph.initializers["w1.codes"])
    assert np.abs(codes).max() <= 7
    scale = found.weights["w1"].scale[:, None, None]
    np.testing.assert_array_equal(codes * scale, found.constants["w1"])
    nearest = constant(write(model, plan, parameters, {}).graph.initializers["w1.codes"])
    assert (codes != nearest).any()


@pytest.mark.parametrize("section", [DYNAMIC, STORAGE])
@pytest.mark.parametrize("name", ROUNDING)
def test_a_recurrent_layer_gets_better_input_and_state_weights(name, section):
    rows = {"x": normal(300, 5, 6)}
    model = cell(bidirectional=True)
    quantized = four_bits(model, rows, section)
    found, (record,) = tune([name], quantized, rows)
    assert record.after < 0.9 * record.before
    expected = run(model, rows)
    assert relative_error(run(written(quantized, found), rows), expected) < relative_error(
        run(written(quantized, quantized[2]), rows), expected
    )
