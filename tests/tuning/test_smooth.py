from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from support.graphs import (
    attention,
    dense,
    fraud_like,
    fraud_rows,
    mlp,
    model_of,
    residual_convolutions,
    sequence_dense,
)
from support.quantizing import relative_error, run

from qtool.calibration.calibrate import observe, ranges
from qtool.config.quantization import StaticQuantization
from qtool.config.tuning import Smooth
from qtool.errors import ConfigError
from qtool.evaluation.equality import check_equal
from qtool.graph.parameters import derive
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.graph.writing.writer import write
from qtool.numerics.observers import min_max
from qtool.progress import SilentProgress
from qtool.tuning.channel_moments import channel_moments
from qtool.tuning.smooth import smooth

WIDTH, STEPS = 16, 5
SHAPE = ["batch", STEPS, WIDTH]


def rows_of(inputs):
    def rows(count):
        yield {name: array[:count] for name, array in inputs.items()}

    return rows


def sequences(rows=64, width=WIDTH, steps=STEPS, seed=1):
    generator = np.random.default_rng(seed)
    return {"x": generator.standard_normal((rows, steps, width)).astype(np.float32)}


def smoothed(model, inputs, match="*", strength="auto"):
    """Returns prepared graph, smoothed graph and records by layer, the two graphs being equal."""
    prepared = prepare(model)
    section = Smooth(method="smooth", match=match, strength=strength)
    changed, records = smooth(prepared, section, rows_of(inputs), SilentProgress())
    check_equal(prepared, changed, [inputs])
    assert all(record.after <= record.before for record in records)
    assert all((record.after < record.before) == (not record.reason) for record in records)
    return prepared, changed, {record.layer: record for record in records}


def int8_error(prepared, inputs):
    """Relative output error of the static INT8 form with one scale per tensor."""
    plan = make_plan(prepared, "sha", StaticQuantization(method="static"), TARGETS["x86_vnni"])
    found = ranges(plan, observe(prepared, plan, [inputs], 1, SilentProgress()), min_max)
    written = write(prepared, plan, derive(prepared, plan, found), {})
    return relative_error(run(written, inputs), run(prepared, inputs))


def weight_of(model, name):
    return model.graph.initializers[name].const_value.numpy()


def scaled_columns(model, name, columns, by):
    """Gives some outputs of a weight other sizes."""
    weight = weight_of(model, name).copy()
    weight[:, columns] *= by
    model.graph.initializers[name].const_value = ir.tensor(weight, name=name)
    return model


def normed(nodes, constants, outputs=WIDTH, extra=()):
    """LayerNormalization with outlier channels, and what reads ``n``; output ``y``."""
    generator = np.random.default_rng(2)
    gain = np.ones(WIDTH, np.float32)
    gain[[2, 11]] = 80
    known = {
        "gain": gain,
        "shift": generator.standard_normal(WIDTH).astype(np.float32) * gain,
        "w": dense(generator, WIDTH, outputs) / gain[:, None],
        "b": dense(generator, outputs),
        **constants,
    }
    norm = helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["n"], name="norm")
    results = [("y", TensorProto.FLOAT, ["batch", STEPS, outputs]), *extra]
    return model_of([norm, *nodes], [("x", TensorProto.FLOAT, SHAPE)], results, known)


def product(x, weight, y, name):
    return helper.make_node("MatMul", [x, weight], [y], name=name)


HEAD = [product("n", "w", "m", "head"), helper.make_node("Add", ["m", "b"], ["y"], name="bias")]


def test_a_normalization_takes_the_factors():
    model = normed(HEAD, {})
    prepared, changed, records = smoothed(model, sequences())
    assert len(list(changed.graph)) == len(list(prepared.graph))
    assert records["head"].after < records["head"].before / 100
    inputs = sequences(256, seed=3)
    assert int8_error(changed, inputs) < int8_error(prepared, inputs) / 5


def test_the_prepared_graph_stays_as_it_is():
    prepared = prepare(normed(HEAD, {}))
    before = {name: v.const_value.numpy().copy() for name, v in prepared.graph.initializers.items()}
    smooth(prepared, Smooth(method="smooth"), rows_of(sequences()), SilentProgress())
    for name, value in prepared.graph.initializers.items():
        np.testing.assert_array_equal(value.const_value.numpy(), before[name])


def test_all_that_read_one_activation_are_smoothed_together():
    generator = np.random.default_rng(5)
    nodes = [
        product("n", "w", "m", "first"),
        product("n", "v", "k", "second"),
        helper.make_node("Add", ["m", "k"], ["y"], name="sum"),
    ]
    second = dense(generator, WIDTH, WIDTH)
    second[[2, 11]] /= 80
    _, _, records = smoothed(normed(nodes, {"v": second}), sequences(), match="first")
    assert list(records) == ["first"]
    _, _, both = smoothed(normed(nodes, {"v": second}), sequences())
    assert both["first"].after == both["second"].after == records["first"].after


def test_a_scale_that_two_normalizations_share_is_divided_for_one():
    generator = np.random.default_rng(5)
    nodes = [
        product("n", "w", "m", "first"),
        helper.make_node("LayerNormalization", ["m", "gain", "shift"], ["k"], name="other"),
        helper.make_node("Tanh", ["k"], ["y"], name="end"),
    ]
    smoothed(normed(nodes, {"w": dense(generator, WIDTH, WIDTH)}), sequences(), strength=0.5)


def test_a_residual_beside_the_layer_gets_one_mul():
    nodes = [*HEAD[:1], helper.make_node("Add", ["m", "n"], ["y"], name="residual")]
    prepared, changed, records = smoothed(normed(nodes, {}), sequences())
    assert records["head"].reason == ""
    added = [node for node in changed.graph if node.op_type == "Mul"]
    assert [node.name for node in added] == ["n.smooth"]
    assert len(list(changed.graph)) == len(list(prepared.graph)) + 1
    inputs = sequences(256, seed=3)
    assert int8_error(changed, inputs) < int8_error(prepared, inputs) / 5


def test_a_mul_that_would_gain_little_is_not_inserted():
    nodes = [*HEAD[:1], helper.make_node("Add", ["m", "n"], ["y"], name="residual")]
    even = {"gain": np.ones(WIDTH, np.float32), "shift": np.zeros(WIDTH, np.float32)}
    even["w"] = dense(np.random.default_rng(2), WIDTH, WIDTH)
    prepared, changed, records = smoothed(normed(nodes, even), sequences())
    assert "residual (Add) reads" in records["head"].reason
    assert "less than 6" in records["head"].reason
    assert len(list(changed.graph)) == len(list(prepared.graph))


def test_what_the_estimate_is_uncertain_by_is_left_alone():
    even = {"gain": np.ones(WIDTH, np.float32), "shift": np.zeros(WIDTH, np.float32)}
    even["w"] = dense(np.random.default_rng(2), WIDTH, WIDTH)
    prepared, changed, records = smoothed(normed(HEAD, even), sequences())
    assert "the estimate is uncertain by" in records["head"].reason
    np.testing.assert_array_equal(weight_of(prepared, "w"), weight_of(changed, "w"))
    _, _, given = smoothed(normed(HEAD, even), sequences(), strength=0.2)
    assert given["head"].reason == ""


def test_padding_does_not_count():
    """Beside the mask, what lies in padded steps changes nothing."""
    model = prepare(normed(HEAD, {"gain": np.ones(WIDTH, np.float32)}))
    mask = (np.arange(STEPS) < np.arange(64)[:, None] % STEPS + 1).astype(np.int64)
    x = sequences()["x"]
    x[:, :, 5] *= 30
    padded = {"x": np.where(mask[:, :, None] > 0, x, 1000 * x[::-1]), "mask": mask}
    clean = {"x": x * mask[:, :, None], "mask": mask}
    found = []
    shapes = {"x": (3, STEPS, WIDTH), "mask": (3, STEPS), "n": (3, STEPS, WIDTH)}
    for rows in (clean, padded):
        axes, pieces = {"x": 2}, [rows]
        found.append(channel_moments(model, axes, pieces, shapes, {"x": "mask"})["x"])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1].mean_square, found[1][1].mean_square)
    real = clean["x"][mask > 0]
    assert found[0][1].high.max() <= real.max()


def test_one_row_is_enough():
    smoothed(normed(HEAD, {}), {"x": sequences()["x"][:1]})


def test_an_activation_that_the_model_returns_is_not_divided():
    extra = [("n", TensorProto.FLOAT, SHAPE)]
    _, changed, records = smoothed(normed(HEAD, {}, extra=extra), sequences())
    assert records["head"].reason == ""
    assert any(node.op_type == "Mul" for node in changed.graph)


def rms(x, gain, y, name):
    """The form that torch exports."""
    return [
        helper.make_node("Mul", [x, x], [f"{name}.s"], name=f"{name}.square"),
        helper.make_node("ReduceMean", [f"{name}.s", "last"], [f"{name}.m"], name=f"{name}.mean"),
        helper.make_node("Sqrt", [f"{name}.m"], [f"{name}.r"], name=f"{name}.root"),
        helper.make_node("Div", [x, f"{name}.r"], [f"{name}.n"], name=f"{name}.norm"),
        helper.make_node("Mul", [f"{name}.n", gain], [y], name=f"{name}.gain"),
    ]


def gated():
    """RMS normalization with outliers, then down(silu(gate(n)) * up(n)), as in language models."""
    generator = np.random.default_rng(2)
    gain = np.ones(WIDTH, np.float32)
    gain[4] = 100
    up = dense(generator, WIDTH, 24) / gain[:, None]
    up[:, 7] *= 50
    constants = {
        "last": np.array([-1]),
        "gain": gain,
        "up.w": up,
        "gate.w": dense(generator, WIDTH, 24) / gain[:, None],
        "down.w": dense(generator, 24, WIDTH),
    }
    nodes = [
        *rms("x", "gain", "n", "rms"),
        product("n", "gate.w", "g", "gate"),
        product("n", "up.w", "u", "up"),
        helper.make_node("Sigmoid", ["g"], ["s"], name="sigmoid"),
        helper.make_node("Mul", ["g", "s"], ["silu"], name="silu"),
        helper.make_node("Mul", ["silu", "u"], ["h"], name="product"),
        product("h", "down.w", "y", "down"),
    ]
    ends = [("x", TensorProto.FLOAT, SHAPE)], [("y", TensorProto.FLOAT, SHAPE)]
    return model_of(nodes, *ends, constants)


def test_a_gate_and_an_rms_normalization_take_the_factors():
    prepared, changed, records = smoothed(gated(), sequences(), strength=0.5)
    assert [records[name].reason for name in ("gate", "up", "down")] == [""] * 3
    assert len(list(changed.graph)) == len(list(prepared.graph))


def attention_out(steps=6, width=32):
    """The attention of the support graphs with an output projection, and outliers in its values."""
    model = scaled_columns(attention(width=width, steps=steps), "v.weight", [3, 20], 40)
    weight = ir.val(
        "o.weight", const_value=ir.tensor(dense(np.random.default_rng(9), width, width))
    )
    model.graph.register_initializer(weight)
    (old,) = model.graph.outputs
    node = ir.node("MatMul", [old, weight], name="out")
    node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = "z", old.type, old.shape
    model.graph.append(node)
    model.graph.outputs[:] = [node.outputs[0]]
    return model


def test_the_values_of_attention_take_the_factors_of_its_heads():
    inputs = sequences(width=32, steps=6)
    prepared, changed, records = smoothed(attention_out(), inputs)
    assert records["o"].reason == ""
    assert records["o"].after < records["o"].before / 2
    assert len(list(changed.graph)) == len(list(prepared.graph))
    assert "product of two activations" in records["scores"].reason


@pytest.mark.parametrize("split", [True, False])
def test_packed_projections_are_divided_where_the_values_are(split):
    """One dense layer for query, key and value, taken apart by Gather or Split."""
    generator = np.random.default_rng(4)
    weight = dense(generator, WIDTH, 3 * WIDTH)
    weight[:, -3] *= 50
    constants = {
        "qkv": weight,
        "o": dense(generator, WIDTH, WIDTH),
        "three": np.array([0, STEPS, 3, WIDTH]),
        "sizes": np.array([WIDTH] * 3),
        **{str(number): np.array(number) for number in range(3)},
    }
    nodes = [product("x", "qkv", "p", "packed")]
    if split:
        nodes.append(helper.make_node("Split", ["p", "sizes"], ["q", "k", "v"], axis=2, name="s"))
    else:
        nodes.append(helper.make_node("Reshape", ["p", "three"], ["r"], name="reshape"))
        nodes += [
            helper.make_node("Gather", ["r", str(number)], [name], axis=2, name=f"take.{name}")
            for number, name in enumerate("qkv")
        ]
    nodes += [
        helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1], name="turn"),
        helper.make_node("MatMul", ["q", "t"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["mixed"], name="mix"),
        product("mixed", "o", "y", "out"),
    ]
    ends = [("x", TensorProto.FLOAT, SHAPE)], [("y", TensorProto.FLOAT, SHAPE)]
    prepared, changed, records = smoothed(model_of(nodes, *ends, constants), sequences(), "out")
    assert records["out"].reason == ""
    before, after = (weight_of(graph, "qkv") for graph in (prepared, changed))
    np.testing.assert_array_equal(before[:, : 2 * WIDTH], after[:, : 2 * WIDTH])
    assert np.abs(after[:, -3]).max() < np.abs(before[:, -3]).max() / 3


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_layers_on_both_sides_of_a_relu(activation):
    model = scaled_columns(sequence_dense(activation=activation), "w0", [1, 9], 40)
    prepared, changed, records = smoothed(model, sequences())
    assert records["down"].reason == ""
    assert len(list(changed.graph)) == len(list(prepared.graph))


def test_a_gelu_between_makes_a_mul_necessary():
    _, _, records = smoothed(sequence_dense(activation="Gelu"), sequences())
    assert "(Gelu) makes them" in records["down"].reason


@pytest.mark.parametrize("strength", [0, 0.5, 1])
@pytest.mark.parametrize("pool", [False, True])
def test_convolutions(strength, pool):
    generator = np.random.default_rng(1)
    x = {"x": generator.standard_normal((16, 4, 20)).astype(np.float32)}
    smoothed(residual_convolutions(pool=pool), x, strength=strength)


def grouped():
    """A grouped convolution between two others, with outliers, and a mean and a head."""
    generator = np.random.default_rng(3)

    def weight(*shape):
        return (generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {
        "w0": weight(8, 4, 3),
        "w1": weight(12, 2, 3),
        "w2": weight(6, 12, 1),
        "b0": weight(8, 1)[:, 0],
        "axes": np.array([2]),
        "h": weight(6, 5),
    }
    constants["w0"][5] *= 50
    constants["w1"][3:6, 1] *= 20
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="c0", pads=[1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="r0"),
        helper.make_node("MaxPool", ["r0"], ["p0"], name="p0", kernel_shape=[2]),
        helper.make_node("Conv", ["p0", "w1"], ["c1"], name="c1", group=4, pads=[1, 1]),
        helper.make_node("Conv", ["c1", "w2"], ["c2"], name="c2"),
        helper.make_node("ReduceMean", ["c2", "axes"], ["mean"], name="mean", keepdims=0),
        helper.make_node("MatMul", ["mean", "h"], ["y"], name="head"),
    ]
    inputs = [("x", TensorProto.FLOAT, ["batch", 4, 20])]
    return model_of(nodes, inputs, [("y", TensorProto.FLOAT, ["batch", 5])], constants)


@pytest.mark.parametrize("strength", ["auto", 0.5])
def test_grouped_convolutions_pools_and_means(strength):
    x = {"x": np.random.default_rng(1).standard_normal((16, 4, 20)).astype(np.float32)}
    _, _, records = smoothed(grouped(), x, strength=strength)
    assert records["c1"].reason == ""
    assert "is an input of the model" in records["c0"].reason


def test_tabular_inputs_are_left_to_column_scales():
    _, _, records = smoothed(fraud_like(), fraud_rows(64))
    reasons = {record.reason.partition(":")[0] for record in records.values()}
    assert "its input is tabular" in reasons
    assert "a lookup reads no activation" in reasons


def test_dead_channels():
    x = np.random.default_rng(2).standard_normal((64, 8)).astype(np.float32)
    x[:, 3] = 0
    model = mlp()
    smoothed(model, {"x": x}, strength=0.5)
    smoothed(model, {"x": 0 * x}, strength=0.5)


def test_recurrent_layers_say_why_not():
    generator = np.random.default_rng(7)
    constants = {"W": dense(generator, 1, 24, 16), "R": dense(generator, 1, 24, 8)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[1, 0, 2]),
        helper.make_node("GRU", ["t", "W", "R"], ["h"], name="cell", hidden_size=8),
        helper.make_node("Transpose", ["h"], ["y"], name="back", perm=[2, 0, 1, 3]),
    ]
    outputs = [("y", TensorProto.FLOAT, ["batch", STEPS, 1, 8])]
    model = model_of(nodes, [("x", TensorProto.FLOAT, SHAPE)], outputs, constants)
    _, _, records = smoothed(model, sequences())
    assert records["cell"].reason == "its activations stay in float"


def test_a_match_without_layers_is_an_error():
    with pytest.raises(ConfigError, match=r"quantization.tuning: 'Relu' matches no layer.*body"):
        smoothed(fraud_like(), fraud_rows(8), match="Relu")
    with pytest.raises(ConfigError, match=r"quantization.tuning: 'no.\*' matches no node"):
        smoothed(fraud_like(), fraud_rows(8), match="no.*")
