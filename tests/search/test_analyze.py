from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import (
    attention,
    dense,
    fraud_like,
    fraud_rows,
    mlp,
    model_of,
    recurrent,
    residual_convolutions,
    residual_mlp,
)

from qtool.config.quantization import StaticQuantization
from qtool.errors import ModelError
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.progress import SilentProgress
from qtool.search import alone
from qtool.search.analysis_file import analysis_from_json, analysis_to_json
from qtool.search.analyze import analyze

STATIC = StaticQuantization(method="static")
ELSEWHERE = "arm_dotprod"
"""Whose times are of the cost table on the machines that run tests."""


def rows_of(inputs):
    count = len(next(iter(inputs.values())))

    def first(rows):
        for start in range(0, min(rows, count), 64):
            end = min(start + 64, rows, count)
            yield {name: array[start:end] for name, array in inputs.items()}

    return first


def analyzed(model, inputs, target=ELSEWHERE, batch_sizes=(1, 32), prepared=False):
    return analyze(
        model if prepared else prepare(model),
        rows_of(inputs),
        masks={},
        target=TARGETS[target],
        batch_sizes=batch_sizes,
        threads=1,
        section=STATIC,
        progress=SilentProgress(),
    )


def normal(*shape):
    return {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def options_of(analysis, *methods):
    return [(la, o) for la in analysis.layers for o in la.options if o.method in methods]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (mlp("Relu", outputs=5), normal(256, 8)),
        (fraud_like(), fraud_rows(256)),
        (residual_mlp(), normal(256, 32)),
        (attention(), normal(128, 6, 32)),
    ],
    ids=["mlp", "embeddings", "residual", "attention"],
)
def test_predicted_errors_are_the_measured_ones(model, inputs):
    found = analyzed(model, inputs)
    assert found.correlation > 0.9
    pairs = [
        (option.error, option.measured_error)
        for _, option in options_of(found, "static", "dynamic", "weight_only")
        if option.bits == 8 and option.measured_error > 1e-9
    ]
    assert len(pairs) >= 6
    decibels = [10 * math.log10(a / b) for a, b in pairs]
    assert np.abs(np.median(decibels)) < 1


def test_every_treatment_is_an_option_or_refused():
    found = analyzed(fraud_like(), fraud_rows(64))
    table, *_ = found.layers
    assert [(o.method, o.bits) for o in table.options] == [("storage", 8), ("float", 32)]
    assert set(table.refused) == {"static", "dynamic", "weight_only"}
    head = found.layers[-1]
    assert [(o.method, o.bits) for o in head.options] == [
        ("static", 8),
        ("dynamic", 8),
        ("weight_only", 8),
        ("weight_only", 4),
        ("storage", 8),
        ("float", 32),
    ]
    for layer, option in options_of(found, "float"):
        assert (option.error, option.measured_error) == (0.0, 0.0)
        assert layer.option("float") is option


def outlier_model(gain):
    """Three dense layers; one channel of the normalization before the second one is larger."""
    generator = np.random.default_rng(0)
    constants = {name: dense(generator, 32, 32) for name in ("w0", "w1", "w2")}
    constants |= {"zeros": np.zeros(32, np.float32), "gain": np.ones(32, np.float32)}
    constants["gain"][7] = gain
    constants["w1"][7] /= gain
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "zeros"], ["g0"]),
        helper.make_node("LayerNormalization", ["g0", "gain", "zeros"], ["n"]),
        helper.make_node("Gemm", ["n", "w1", "zeros"], ["g1"]),
        helper.make_node("Tanh", ["g1"], ["t"]),
        helper.make_node("Gemm", ["t", "w2", "zeros"], ["y"]),
    ]
    ends = [("x", TensorProto.FLOAT, ["batch", 32])], [("y", TensorProto.FLOAT, ["batch", 32])]
    return model_of(nodes, *ends, constants)


def test_a_layer_with_planted_outliers_is_the_worst():
    found = analyzed(outlier_model(200.0), normal(256, 32))
    errors = [layer.option("static").measured_error for layer in found.layers]
    assert int(np.argmax(errors)) == 1
    assert found.layers[1].channel_outlier > 50 > found.layers[2].channel_outlier
    assert found.layers[1].name in found.reason or found.advice == "keep FP32"
    plain = analyzed(outlier_model(1.0), normal(256, 32))
    assert plain.layers[1].option("static").measured_error < errors[1] / 100


def test_a_small_network_at_batch_1_stays_in_fp32():
    found = analyzed(mlp(), normal(128, 8), batch_sizes=(1,))
    assert found.advice == "keep FP32"
    assert not found.advised
    assert found.advised_us == found.fp32_us


def test_a_large_network_is_quantized():
    constants = {"w": dense(np.random.default_rng(0), 512, 512), "b": np.zeros(512, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    ends = [[(name, TensorProto.FLOAT, ["batch", 4, 512])] for name in ("x", "y")]
    found = analyzed(model_of(nodes, *ends, constants), normal(64, 4, 512), batch_sizes=(32,))
    assert found.advice == "quantize"
    assert list(found.advised.values()) == [("static", 8)]
    assert found.advised_us[32] < found.fp32_us[32] / 1.2


def test_convolutions_between_which_codes_pass_are_one_unit():
    found = analyzed(residual_convolutions(), normal(128, 4, 20))
    assert len({layer.unit for layer in found.layers}) == 1
    # The errors of its layers add up to what was measured of all of them together.
    total = sum(layer.option("static").measured_error for layer in found.layers)
    predicted = sum(layer.option("static").error for layer in found.layers)
    assert total == pytest.approx(predicted, rel=1.0)


def test_convolutions_with_floats_between_them_are_two_units():
    found = analyzed(residual_convolutions("Softplus"), normal(128, 4, 20))
    assert len({layer.unit for layer in found.layers}) > 1


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_recurrent_layers_whose_rows_are_on_the_second_axis(kind):
    cell = recurrent(kind)
    values = cell.graph.initializers
    constants = {name: values[name].const_value.numpy() for name in ("W", "R", "B")}
    nodes = [
        helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
        helper.make_node(kind, ["steps", "W", "R", "B"], ["y"], name="cell", hidden_size=16),
    ]
    ends = (
        [("x", TensorProto.FLOAT, ["batch", 5, 6])],
        [("y", TensorProto.FLOAT, [5, 1, "batch", 16])],
    )
    found = analyzed(model_of(nodes, *ends, constants), normal(96, 5, 6))
    (layer,) = found.layers
    option = layer.option("dynamic" if kind == "LSTM" else "storage")
    assert option.error == pytest.approx(option.measured_error, rel=0.5)
    assert math.isnan(layer.outlier)


def test_saturation_is_told_for_targets_that_saturate():
    # All codes are 255 and all weights 127, so that every pair sum is 64,770; the second layer
    # has zeros beside its weights.
    constants = {
        "w0": np.ones((4, 6), np.float32),
        "w1": np.tile(np.array([[1], [0]], np.float32), (3, 2)),
        "b0": np.zeros(6, np.float32),
        "b1": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "w1", "b1"], ["y"], name="second"),
    ]
    ends = [("x", TensorProto.FLOAT, ["batch", 4])], [("y", TensorProto.FLOAT, ["batch", 2])]
    model = model_of(nodes, *ends, constants)
    rows = np.random.default_rng(0).choice([0.0, 1.0], (64, 1)).repeat(4, axis=1)
    inputs = {"x": rows.astype(np.float32)}
    half = float(rows.mean())
    found = analyzed(model, inputs, "x86_avx2")
    assert [layer.saturating for layer in found.layers] == pytest.approx([half, 0.0])
    assert all(layer.saturating == 0 for layer in analyzed(model, inputs).layers)


def test_of_many_treatments_the_first_are_measured(monkeypatch):
    monkeypatch.setattr(alone, "MOST_MEASURED", 4)
    found = analyzed(mlp(), normal(64, 8))
    measured = [o for _, o in options_of(found, "static", "dynamic") if o.measured_error >= 0]
    assert [option.method for option in measured].count("static") == 3
    assert len(measured) == 4
    assert any("4 were measured" in note for note in found.notes)


def test_the_same_seed_gives_the_same_errors():
    first, second = (analyzed(mlp(outputs=3), normal(64, 8)) for _ in range(2))
    assert analysis_to_json(first) == analysis_to_json(second)


def test_a_file_keeps_everything():
    found = analyzed(fraud_like(), fraud_rows(64))
    text = analysis_to_json(found)
    assert "NaN" not in text
    again = analysis_from_json(text, "test")
    assert analysis_to_json(again) == text
    assert again.layers[-1].option("static").us == found.layers[-1].option("static").us


def test_spreads_are_quantiles_of_what_layers_read():
    inputs = normal(256, 8)
    found = analyzed(mlp(), inputs)
    spread = next(spread for spread in found.spreads if spread.tensor == "x")
    expected = np.quantile(inputs["x"], [0, 0.001, 0.25, 0.5, 0.75, 0.999, 1])
    width = 2 * np.abs(inputs["x"]).max() / 512
    np.testing.assert_allclose(spread.quantiles, expected, atol=width + 0.05)


def test_outputs_that_do_not_vary_are_refused():
    constants = {"w": np.zeros((8, 2), np.float32), "b": np.ones(2, np.float32)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="constant")
    ends = [("x", TensorProto.FLOAT, ["batch", 8])], [("y", TensorProto.FLOAT, ["batch", 2])]
    with pytest.raises(ModelError, match="no float output that differs"):
        analyzed(model_of([node], *ends, constants), normal(32, 8), prepared=True)
