"""Every block in every method: the kernels that run, and that they compute what FP32 computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from support.graphs import (
    attention,
    dense,
    mlp,
    model_of,
    recurrent,
    residual_convolutions,
    residual_mlp,
    sequence_dense,
)
from support.quantizing import quantized, relative_error, run

from qtool.config.quantization import (
    DynamicQuantization,
    FastestQuantization,
    LayerRule,
    StaticQuantization,
    StorageQuantization,
    WeightOnlyQuantization,
)
from qtool.evaluation.coverage import coverage, not_fused
from qtool.graph.model_file import model_bytes
from qtool.graph.writing.dense import pack_blocks
from qtool.runtime.kernels import kernels_of
from qtool.runtime.sessions import Session

STATIC = StaticQuantization(method="static")
DYNAMIC = DynamicQuantization(method="dynamic")
STORAGE = StorageQuantization(method="storage")


def rows_of(*shape, rows=64, seed=9, axis=0):
    size = list(shape)
    size.insert(axis, rows)
    return {"x": np.random.default_rng(seed).standard_normal(size).astype(np.float32)}


def ran(int8: ir.Model) -> list[str]:
    return [kernel.op_type for kernel in kernels_of(int8, "test")]


def checked(model, rows, section, largest_error, target="x86_amx"):
    """Returns plan and kernels of the INT8 model, after comparing it with FP32."""
    prepared, plan, int8 = quantized(model, rows, section, target)
    assert relative_error(run(int8, rows), run(model, rows)) < largest_error
    nodes = coverage(prepared, plan, kernels_of(int8, "test"))
    assert not not_fused(nodes)
    assert [node.name for node in nodes] == [str(node.name) for node in prepared.graph]
    return plan, ran(int8)


@pytest.mark.parametrize("activation", [None, "Relu", "Gelu", "Sigmoid"])
@pytest.mark.parametrize("bias", [True, False])
def test_dense_layers_on_sequences_take_their_bias_along(activation, bias):
    _, kernels = checked(sequence_dense(bias, activation), rows_of(5, 16), STATIC, 0.02)
    assert kernels.count("MatMulIntegerToFloat") == 2
    assert "Add" not in kernels
    assert "DequantizeLinear" not in kernels


def test_dynamic_dense_layers_on_sequences():
    _, kernels = checked(sequence_dense(), rows_of(5, 16), DYNAMIC, 0.03)
    assert kernels == ["DynamicQuantizeMatMul"] * 2


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("block_size", [16, 32, 128])
@pytest.mark.parametrize("model", [sequence_dense(), mlp()], ids=["sequence", "rank 2"])
def test_weight_only_layers(model, bits, block_size):
    section = WeightOnlyQuantization(method="weight_only", bits=bits, block_size=block_size)
    rows = rows_of(5, 16) if len(model.graph.inputs[0].shape) == 3 else rows_of(8)
    plan, kernels = checked(model, rows, section, 0.02 if bits == 8 else 0.25)
    assert kernels.count("MatMulNBits") == len(plan.weights)
    assert all(weight.spec.block == block_size for weight in plan.weights.values())


def test_blocks_are_packed_as_the_operator_reads_them():
    codes = np.arange(-4, 4, dtype=np.int8).reshape(8, 1)  # one column of eight 4-bit codes
    packed = pack_blocks(codes, bits=4, block=16)
    assert packed.shape == (1, 1, 8)
    # -4 and -3 become 4 and 5 (offset 8); the first of a pair takes the low half of the byte.
    assert packed[0, 0, 0] == 4 + (5 << 4)
    assert packed[0, 0, 4] == 8 + (8 << 4)  # filled up with zeros
    assert pack_blocks(codes, bits=8, block=16)[0, 0, 0] == 124


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid"])
@pytest.mark.parametrize("pool", [False, True])
def test_convolutions_stay_on_codes(activation, pool):
    plan, kernels = checked(
        residual_convolutions(activation, pool=pool), rows_of(4, 20), STATIC, 0.04
    )
    assert kernels.count("QLinearConv") == 3
    assert "QLinearAdd" in kernels
    assert kernels.count("QuantizeLinear") == 1
    assert not {"Conv", "Add", "Relu", "LeakyRelu", "Sigmoid"} & set(kernels)
    if pool:
        assert plan.shares["p"] == "a2"


def test_wide_convolutions_use_matrix_tiles_on_amx_only():
    model, rows = residual_convolutions(channels=128), rows_of(4, 20)
    for target, zero_point in (("x86_amx", -1), ("x86_vnni", 0)):
        _, _, int8 = quantized(model, rows, STATIC, target)
        written = int8.graph.initializers["w2.zero_point"].const_value.numpy()
        assert set(written.ravel()) == {zero_point}
        assert relative_error(run(int8, rows), run(model, rows)) < 0.04


def test_an_attention_product_is_quantized_before_it_is_transposed():
    section = StaticQuantization(
        method="static",
        layers=[LayerRule(match=name, method="static") for name in ("scores", "mix")],
    )
    plan, kernels = checked(attention(), rows_of(6, 32), section, 0.03)
    assert kernels.count("MatMulIntegerToFloat") == 5
    assert plan.activations["k.h"].dtype == "int8"
    assert plan.shares["k.t"] == "k.r"
    assert "Mul" not in kernels  # the scale went into the query's projection


def test_products_stay_float_without_a_rule():
    plan, kernels = checked(attention(), rows_of(6, 32), STATIC, 0.02)
    assert {n.treatment for n in plan.nodes if n.name in ("scores", "mix")} == {"float"}
    assert kernels.count("MatMulIntegerToFloat") == 3


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_dynamic_lstm(bidirectional):
    rows = rows_of(5, 6, axis=1)
    _, kernels = checked(recurrent(bidirectional=bidirectional), rows, DYNAMIC, 0.03)
    assert kernels == ["DynamicQuantizeLSTM"]


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_stored_recurrent_weights_compute_in_float(kind):
    model, rows = recurrent(kind, hidden=64), rows_of(5, 6, axis=1)
    _, kernels = checked(model, rows, STORAGE, 0.02)
    assert kernels == [kind]
    _, _, int8 = quantized(model, rows, STORAGE)
    assert len(model_bytes(int8)) < 0.35 * len(model_bytes(model))


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (mlp(), rows_of(8)),
        (sequence_dense(), rows_of(5, 16)),
        (residual_convolutions(), rows_of(4, 20)),
    ],
    ids=["mlp", "sequence", "convolutions"],
)
def test_storage_is_unpacked_when_the_model_is_loaded(model, rows):
    _, kernels = checked(model, rows, STORAGE, 0.02)
    assert not {"Cast", "Mul", "DequantizeLinear"} & set(kernels)


def test_residuals_between_dense_layers_stay_on_codes():
    _, kernels = checked(residual_mlp(), rows_of(32), STATIC, 0.04)
    assert kernels.count("QLinearAdd") == 2
    assert kernels.count("QuantizeLinear") == 1
    assert "Relu" not in kernels


def test_an_output_of_a_convolution_is_float():
    model, rows = residual_convolutions(), rows_of(4, 20)
    _, _, int8 = quantized(model, rows, STATIC)
    assert [value.name for value in int8.graph.outputs] == ["y"]
    assert run(int8, rows).dtype == np.float32


@pytest.mark.parametrize("target", ["x86_vnni", "x86_avx2", "arm_dotprod"])
@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (sequence_dense(activation="Relu"), rows_of(5, 16)),
        (residual_convolutions(), rows_of(4, 20)),
        (attention(), rows_of(6, 32)),
    ],
    ids=["sequence", "convolutions", "attention"],
)
def test_every_target_computes_the_same(target, model, rows):
    _, _, int8 = quantized(model, rows, STATIC, target)
    assert relative_error(run(int8, rows), run(model, rows)) < 0.04


def test_fastest_needs_to_know_the_work():
    with pytest.raises(ValueError, match="workload"):
        quantized(mlp(), rows_of(8), FastestQuantization(method="fastest"))


def convolution_then(*nodes, outputs=("y",), shape=("batch", 8, 20), **constants) -> ir.Model:
    """conv → ``nodes`` (from c to y) → conv."""
    generator = np.random.default_rng(3)
    weights = {
        "w0": generator.standard_normal((8, 4, 3)).astype(np.float32) / 4,
        "w1": generator.standard_normal((8, 8, 1)).astype(np.float32) / 3,
    }
    last = nodes[-1].output[0] if nodes else "c"
    first = helper.make_node("Conv", ["x", "w0"], ["c"], name="first", pads=[1, 1])
    second = helper.make_node("Conv", [last, "w1"], ["y"], name="second")
    ends = (
        [("x", TensorProto.FLOAT, ["batch", 4, 20])],
        [(name, TensorProto.FLOAT, list(shape)) for name in outputs],
    )
    return model_of([first, *nodes, second], *ends, {**weights, **constants})


HALVES = np.array([4, 4])
MOVING = {
    "pad and slice": (
        convolution_then(
            helper.make_node("Pad", ["c", "pads"], ["q"]),
            helper.make_node("Slice", ["q", "one", "nine", "one"], ["p"]),
            pads=np.array([0, 2, 0, 0, 0, 0]),
            one=np.array([1]),
            nine=np.array([9]),
        ),
        "Pad",
    ),
    "average": (
        convolution_then(
            helper.make_node("AveragePool", ["c"], ["p"], kernel_shape=[2], strides=[2]),
            shape=("batch", 8, 10),
        ),
        "QLinearAveragePool",
    ),
    "global average": (
        convolution_then(
            helper.make_node("GlobalAveragePool", ["c"], ["p"]), shape=("batch", 8, 1)
        ),
        "QLinearGlobalAveragePool",
    ),
    "split": (
        convolution_then(
            helper.make_node("Split", ["c", "halves"], ["p0", "p1"], axis=1),
            helper.make_node("Concat", ["p1", "p0"], ["j"], axis=1),
            halves=HALVES,
        ),
        "Split",
    ),
}


@pytest.mark.parametrize("name", MOVING)
def test_what_lies_between_convolutions_works_on_codes(name):
    model, kernel = MOVING[name]
    plan, kernels = checked(model, rows_of(4, 20), STATIC, 0.04)
    assert kernel in kernels
    assert kernels.count("QuantizeLinear") == kernels.count("DequantizeLinear") == 1
    assert {n.treatment for n in plan.nodes} == {"static"}


def test_an_inner_value_that_is_an_output_too_is_dequantized():
    model, rows = convolution_then(outputs=("y", "c")), rows_of(4, 20)
    _, _, int8 = quantized(model, rows, STATIC)
    assert [value.name for value in int8.graph.outputs] == ["y", "c"]
    found, expected = (Session(m, "test").run(rows) for m in (int8, model))
    for output in ("y", "c"):
        assert relative_error(found[output], expected[output]) < 0.03
    assert "QLinearConv" in ran(int8)


def test_a_clip_from_zero_is_folded_like_a_relu():
    zero, six = np.array(0, np.float32), np.array(0.6, np.float32)
    clip = helper.make_node("Clip", ["c", "zero", "six"], ["p"], name="clip")
    model = convolution_then(clip, zero=zero, six=six)
    _, kernels = checked(model, rows_of(4, 20), STATIC, 0.04)
    assert "Clip" not in kernels


def test_a_branch_that_captures_a_value_keeps_it():
    graph = helper.make_graph
    negative = graph(
        [helper.make_node("Neg", ["h"], ["out"])],
        "n",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    positive = graph(
        [helper.make_node("Identity", ["h"], ["out"])],
        "p",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
    )
    generator = np.random.default_rng(1)
    constants = {
        "w": dense(generator, 8, 16),
        "b": dense(generator, 16),
        "w2": dense(generator, 16, 4),
    }
    constants |= {"b2": dense(generator, 4), "zero": np.array(0, np.float32)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["g"], name="first"),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("Gemm", ["h", "w2", "b2"], ["y"], name="second"),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Less", ["sum", "zero"], ["less"]),
        helper.make_node(
            "If", ["less"], ["z"], name="sign", then_branch=negative, else_branch=positive
        ),
    ]
    ends = (
        [("x", TensorProto.FLOAT, ["batch", 8])],
        [("y", TensorProto.FLOAT, ["batch", 4]), ("z", TensorProto.FLOAT, ["batch", 16])],
    )
    model, rows = model_of(nodes, *ends, constants), rows_of(8)
    _, plan, int8 = quantized(model, rows, STATIC)
    found, expected = (Session(m, "test").run(rows) for m in (int8, model))
    for output in ("y", "z"):
        assert relative_error(found[output], expected[output]) < 0.03
    (reason,) = [node.reason for node in plan.nodes if node.op_type == "If"]
    assert reason == "control flow: its sub-graphs stay as they are"
