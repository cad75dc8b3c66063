from __future__ import annotations

from pathlib import Path

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
)
from support.quantizing import quantized

from qtool.config.quantization import DynamicQuantization, StaticQuantization
from qtool.graph.layers import layers_of
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.kernels import Kernel, kernels_of
from qtool.runtime.profile import KernelTime, Profile
from qtool.search.layer_times import Owners, layer_us
from qtool.search.treatments import name_of_layer

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
EXPORTED = ("residual-mlp-128-512x3", "encoder-d128x2-s60", "tcn-c32")
"""Blocks that torch exports within a second or two; others are made by hand."""
SECTIONS = {
    "static": StaticQuantization(method="static"),
    "dynamic": DynamicQuantization(method="dynamic"),
}


def owners(given, prepared):
    return Owners(given, [*layers_of(prepared).values()], {})


def computed(given, prepared):
    found = owners(given, prepared)
    return {name for kernel in kernels_of(given, "test") for name in found.inside(kernel)}


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import block_models

    return block_models.BLOCKS


def check_every_layer_has_a_kernel(model, rows):
    prepared = prepare(model)
    names = {name_of_layer(layer) for layer in [*layers_of(prepared).values()]}
    assert names
    assert computed(prepared, prepared) == names
    for section in SECTIONS.values():
        _, _, int8 = quantized(model, rows, section)
        assert computed(int8, prepared) == names


@pytest.mark.parametrize("kind", EXPORTED)
def test_every_layer_of_an_exported_block_has_a_kernel(blocks, kind):
    block = blocks[kind]()
    check_every_layer_has_a_kernel(block.model, block.rows(8, 0))


def convolutions_2d():
    """Channels that the runtime blocks by 16, which renames everything between its kernels."""
    generator = np.random.default_rng(0)
    constants = {"w0": dense(generator, 16, 1, 3, 3), "b0": dense(generator, 16)}
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], name="first"),
        helper.make_node("Relu", ["c0"], ["r0"]),
    ]
    for index in (1, 2):
        constants[f"w{index}"] = dense(generator, 16, 16, 3, 3)
        constants[f"b{index}"] = dense(generator, 16)
        inputs = [f"r{index - 1}", f"w{index}", f"b{index}"]
        nodes.append(helper.make_node("Conv", inputs, [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
    ends = (
        [("x", TensorProto.FLOAT, ["batch", 1, 12, 8])],
        [("r2", TensorProto.FLOAT, ["batch", 16, 10, 6])],
    )
    return model_of(nodes, *ends, constants)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (mlp("Tanh", matmul=True), (8, 8)),
        (recurrent(), (5, 4, 6)),
        (recurrent("GRU"), (5, 4, 6)),
        (recurrent(bidirectional=True), (5, 4, 6)),
        (convolutions_2d(), (4, 1, 12, 8)),
        (residual_convolutions("LeakyRelu"), (4, 4, 20)),
    ],
    ids=["mlp", "lstm", "gru", "bidirectional", "2-d", "1-d"],
)
def test_every_layer_has_a_kernel(model, shape):
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    check_every_layer_has_a_kernel(model, {"x": rows})


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (mlp("Gelu"), {"x": np.ones((8, 8), np.float32)}),
        (fraud_like(), fraud_rows(64)),
        (attention(), {"x": np.random.default_rng(0).random((4, 6, 32), np.float32)}),
        (residual_convolutions(pool=True), {"x": np.ones((4, 4, 20), np.float32)}),
        (recurrent(), {"x": np.ones((5, 4, 6), np.float32)}),
    ],
    ids=["mlp", "tables", "attention", "convolutions", "lstm"],
)
def test_no_kernel_computes_two_layers(model, rows):
    prepared, _, int8 = quantized(model, rows)
    for given in (prepared, int8):
        found = owners(given, prepared)
        assert all(len(found.inside(kernel)) <= 1 for kernel in kernels_of(given, "test"))


def test_what_quantizes_belongs_to_the_layer_that_reads_it():
    rows = {"x": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)}
    prepared, _, int8 = quantized(mlp("Gelu"), rows)
    found = owners(int8, prepared)
    first, second, _ = [name_of_layer(layer) for layer in [*layers_of(prepared).values()]]
    quantizers = [k for k in kernels_of(int8, "test") if k.op_type == "QuantizeLinear"]
    assert [found.of(kernel) for kernel in quantizers][:2] == [(first,), (second,)]
    others = [k for k in kernels_of(int8, "test") if "Gelu" in k.op_type]
    assert others
    assert all(found.of(kernel) == () for kernel in others)


def test_times_are_divided_among_those_who_share_a_kernel():
    rows = {"x": np.random.default_rng(0).standard_normal((4, 6, 32)).astype(np.float32)}
    prepared, _, int8 = quantized(attention(), rows)
    found = owners(int8, prepared)
    shared = [k for k in kernels_of(int8, "test") if len(found.of(k)) > 1]
    assert [kernel.op_type for kernel in shared] == ["QuantizeLinear"]  # of queries, keys, values
    timed = tuple(KernelTime(k, 3.0 if k in shared else 0.0) for k in kernels_of(int8, "test"))
    times = layer_us(int8, [*layers_of(prepared).values()], {}, {1: Profile(timed, 3.0, 0.0, 1.0)})
    assert sorted(one[1] for one in times.values()) == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_a_kernel_that_is_not_known_is_nobodys():
    prepared = prepare(mlp())
    kernel = Kernel("Sin", ("a",), ("b",), "unknown")
    assert owners(prepared, prepared).of(kernel) == ()
