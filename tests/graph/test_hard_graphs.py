"""Graphs that a random search found to be written wrongly once, each as small as it gets."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import dense, fraud_like, fraud_rows, model_of, sequence_dense
from support.quantizing import quantized, relative_error, run

from qtool.config.quantization import LayerRule, StaticQuantization, StorageQuantization
from qtool.errors import ConfigError
from qtool.evaluation.coverage import coverage, not_fused
from qtool.graph import layers
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.tables import absorbed_tables
from qtool.runtime.kernels import kernels_of
from qtool.runtime.sessions import Session

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
GENERATOR = np.random.default_rng(11)
ROWS = {"x": GENERATOR.standard_normal((64, 8)).astype(np.float32)}


def static(**options):
    return StaticQuantization(method="static", **options)


def checked(model, rows, section, largest_error=0.04):
    """Returns plan and kernels, after comparing every output with FP32."""
    prepared, plan, int8 = quantized(model, rows, section)
    found, expected = (Session(graph, "test").run(rows) for graph in (int8, model))
    for name, values in expected.items():
        assert found[name].shape == values.shape
        assert relative_error(found[name], values) < largest_error
    kernels = kernels_of(int8, "test")
    assert not not_fused(coverage(prepared, plan, kernels))
    return plan, [kernel.op_type for kernel in kernels]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("pruned", [slice(1, 2), slice(None)], ids=["one output", "all"])
def test_the_bias_of_a_pruned_output_is_kept(per_channel, pruned):
    weight = dense(GENERATOR, 8, 4)
    weight[:, pruned] = 0
    constants = {"w": weight, "b": np.array([0.1, 0.3, -0.2, 0.4], np.float32)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    model = model_of([node], [("x", FLOAT, ["n", 8])], [("y", FLOAT, ["n", 4])], constants)
    _, _, int8 = quantized(model, ROWS, static(per_channel=per_channel))
    np.testing.assert_allclose(run(int8, ROWS)[:, pruned], run(model, ROWS)[:, pruned], atol=1e-4)


@pytest.mark.parametrize("section", [static(), StorageQuantization(method="storage")])
def test_a_large_table_may_feed_a_layer_directly(section, monkeypatch):
    monkeypatch.setattr(layers, "LOOKED_UP_FROM_BYTES", 0)
    constants = {
        "table": dense(GENERATOR, 16, 8),
        "w": dense(GENERATOR, 8, 4),
        "b": np.zeros(4, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "codes"], ["row"], name="lookup"),
        helper.make_node("Gemm", ["row", "w", "b"], ["y"], name="layer"),
    ]
    model = model_of(nodes, [("codes", INT64, ["n"])], [("y", FLOAT, ["n", 4])], constants)
    checked(model, {"codes": np.arange(16)}, section)


def test_who_is_not_static_reads_the_float_value_of_a_layer_with_bias():
    model = sequence_dense(activation="Relu")
    graph = model.graph
    hidden = next(node for node in graph if node.op_type == "Relu").inputs[0]
    hidden.shape, hidden.dtype = graph.outputs[0].shape.copy(), graph.outputs[0].dtype
    hidden.shape[2] = 32
    graph.outputs.append(hidden)
    rows = {"x": GENERATOR.standard_normal((64, 5, 16)).astype(np.float32)}
    _, _, int8 = quantized(model, rows, static())
    found = Session(int8, "test").run(rows)[str(hidden.name)]
    assert len(np.unique(found)) > 256


@pytest.mark.parametrize(("shape", "bias"), [(["n", 8], (1, 1, 4)), (["n", 3, 8], (1, 1, 1, 4))])
def test_a_bias_with_more_axes_keeps_them(shape, bias):
    constants = {"w": dense(GENERATOR, 8, 4), "b": np.ones(bias, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    output = [1] * (len(bias) - len(shape)) + [*shape[:-1], 4]
    model = model_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, output)], constants)
    rows = {"x": np.ones([5 if size == "n" else size for size in shape], np.float32)}
    assert run(prepare(model), rows).shape == run(model, rows).shape


def test_a_value_that_a_product_and_a_convolution_read_stays_an_activation():
    constants = {"w": GENERATOR.standard_normal((8, 8, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("MatMul", ["c", "x"], ["y"], name="product"),
    ]
    shape = ["n", 8, 8]
    model = model_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], constants)
    rows = {"x": GENERATOR.standard_normal((32, 8, 8)).astype(np.float32)}
    section = static(layers=[LayerRule(match="product", method="static")])
    plan, _ = checked(model, rows, section)
    assert plan.activations["x"].dtype == "uint8"


@pytest.mark.parametrize("other", ["Softmax", "Clip", "Identity"])
def test_a_layer_with_readers_of_both_kinds_is_an_integer_kernel(other):
    constants = {name: dense(GENERATOR, 8, 8) for name in ("w0", "w1")}
    constants |= {name: dense(GENERATOR, 8) for name in ("b0", "b1")}
    constants |= {"low": np.array(-1, np.float32), "high": np.array(1, np.float32)}
    ends = ["g", "low", "high"] if other == "Clip" else ["g"]
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["g"], name="first"),
        helper.make_node("Gemm", ["g", "w1", "b1"], ["y"], name="second"),
        helper.make_node(other, ends, ["z"]),
    ]
    if other != "Clip":
        del constants["low"], constants["high"]
    outputs = [(name, FLOAT, ["n", 8]) for name in ("y", "z")]
    checked(model_of(nodes, [("x", FLOAT, ["n", 8])], outputs, constants), ROWS, static())


def test_pooling_that_also_tells_positions_stays_float():
    constants = {"w": GENERATOR.standard_normal((8, 4, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["y", "places"], kernel_shape=[2], strides=[2]),
    ]
    outputs = [("y", FLOAT, ["n", 8, 5]), ("places", INT64, ["n", 8, 5])]
    model = model_of(nodes, [("x", FLOAT, ["n", 4, 10])], outputs, constants)
    rows = {"x": GENERATOR.standard_normal((8, 4, 10)).astype(np.float32)}
    _, _, int8 = quantized(model, rows, static())
    assert Session(int8, "test").run(rows)["places"].dtype == np.int64


def test_names_like_those_of_the_writer_do_not_collide():
    constants = {"w": dense(GENERATOR, 8, 4), "b": np.zeros(4, np.float32)}
    constants |= {"w.scale": np.ones(8, np.float32)}
    nodes = [
        helper.make_node("Mul", ["x", "w.scale"], ["x.q_output"]),
        helper.make_node("Tanh", ["x.q_output"], ["t"]),
        helper.make_node("Gemm", ["t", "w", "b"], ["y"]),
    ]
    model = model_of(nodes, [("x", FLOAT, ["n", 8])], [("y", FLOAT, ["n", 4])], constants)
    checked(model, ROWS, static())


def test_a_rule_on_the_bias_means_its_layer():
    section = static(layers=[LayerRule(match="up_bias", method="float")])
    rows = {"x": GENERATOR.standard_normal((16, 5, 16)).astype(np.float32)}
    plan, _ = checked(sequence_dense(), rows, section)
    assert {n.name: n.treatment for n in plan.nodes}["up"] == "float"


def test_a_wildcard_means_the_layers_that_can_follow():
    constants = {"w": dense(GENERATOR, 8, 8)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="dense"),
        helper.make_node("MatMul", ["m", "x"], ["y"], name="product"),
    ]
    shape = ["n", 8, 8]
    model = model_of(nodes, [("x", FLOAT, shape)], [("y", FLOAT, shape)], constants)
    rows = {"x": GENERATOR.standard_normal((8, 8, 8)).astype(np.float32)}
    for match in ("*", "MatMu?"):
        plan, _ = checked(model, rows, static(layers=[LayerRule(match=match, method="storage")]))
        assert [node.treatment for node in plan.nodes] == ["storage", "float"]
    with pytest.raises(ConfigError, match=r"'product' asks for storage, but .* has no weight"):
        quantized(model, rows, static(layers=[LayerRule(match="product", method="storage")]))


def test_a_weight_may_be_an_output_too():
    constants = {"w": dense(GENERATOR, 8, 4), "b": np.zeros(4, np.float32)}
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    outputs = [("y", FLOAT, ["n", 4]), ("w", FLOAT, [8, 4])]
    model = model_of([node], [("x", FLOAT, ["n", 8])], outputs, constants)
    checked(model, ROWS, static())


def test_a_product_reads_rows_of_a_table():
    # The codes are those of the rows that were looked up, not of the table.
    constants = {"table": dense(GENERATOR, 8, 16), "rule": dense(GENERATOR, 8, 4)}
    nodes = [
        helper.make_node("MatMul", ["x", "rule"], ["h"], name="h"),
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="lookup"),
        helper.make_node("MatMul", ["h", "rows"], ["y"], name="mix"),
    ]
    inputs = [("x", FLOAT, ["batch", 4, 8]), ("ids", INT64, ["batch", 4])]
    model = model_of(nodes, inputs, [("y", FLOAT, ["batch", 4, 16])], constants)
    rows = {
        "x": GENERATOR.standard_normal((16, 4, 8)).astype(np.float32),
        "ids": GENERATOR.integers(0, 8, (16, 4)),
    }
    section = static(layers=[LayerRule(match="mix", method="static")])
    plan, _ = checked(model, rows, section)
    assert "rows" in plan.activations
    assert "table" not in plan.activations


def test_tables_in_one_scale_are_the_codes_of_their_rows():
    # What is looked up as codes is what would have been quantized after the lookup.
    model, rows = fraud_like(), fraud_rows(300)
    whole = quantized(model, rows, static(columns="shared"))
    kept = [LayerRule(match="table.*", method="float")]
    apart = quantized(model, rows, static(columns="shared", layers=kept))
    output = model.graph.outputs[0].name
    found, expected = (Session(graph, "test").run(rows)[output] for _, _, graph in (whole, apart))
    assert np.array_equal(found, expected)
    assert set(absorbed_tables(whole[0], whole[1])) == {"features"}
    assert not absorbed_tables(apart[0], apart[1])
    assert not [name for name in whole[2].graph.initializers if name == "table.0.weight"]
