"""Weights as matrices: the chosen codes are the written ones, and rows @ matrix is the layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.cells import cell
from support.graphs import (
    attention,
    fraud_like,
    fraud_rows,
    model_of,
    residual_convolutions,
    sequence_dense,
)
from support.quantizing import parameters_for, run

from qtool.config.quantization import (
    DynamicQuantization,
    StaticQuantization,
    StorageQuantization,
    WeightOnlyQuantization,
)
from qtool.errors import DataError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.layers import layers_of, name_of
from qtool.graph.model_file import constant
from qtool.graph.writing.dense import pack_blocks
from qtool.graph.writing.writer import write
from qtool.runtime.sessions import Session
from qtool.tuning.moments import moments
from qtool.tuning.products import grids_of, products_of, rows_of, with_codes
from qtool.tuning.rounding import stages

STATIC = StaticQuantization(method="static", per_channel=True)
ONE_SCALE = StaticQuantization(method="static")
DYNAMIC = DynamicQuantization(method="dynamic")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def odd_convolution(**attributes):
    """Two groups, strides, dilations and uneven padding, on (batch, 4, 9, 11)."""
    constants = {"w": normal(6, 2, 3, 2) / 3, "b": normal(6)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="odd", group=2, **attributes)
    ends = (
        [("x", TensorProto.FLOAT, ["batch", 4, 9, 11])],
        [("y", TensorProto.FLOAT, ["batch", 6, "high", "wide"])],
    )
    return model_of([node], *ends, constants)


SEQUENCE, CHANNELS, STEPS = normal(40, 5, 16), normal(40, 4, 20), normal(40, 5, 6)
CASES = {
    "column scales": (fraud_like(), fraud_rows(200), STATIC),
    "one scale": (fraud_like(), fraud_rows(200), ONE_SCALE),
    "sequence": (sequence_dense(), {"x": SEQUENCE}, STATIC),
    "dynamic": (sequence_dense(), {"x": SEQUENCE}, DYNAMIC),
    "storage": (sequence_dense(), {"x": SEQUENCE}, StorageQuantization(method="storage")),
    "4-bit blocks": (
        sequence_dense(),
        {"x": SEQUENCE},
        WeightOnlyQuantization(method="weight_only", bits=4, block_size=16),
    ),
    "8-bit blocks": (
        sequence_dense(),
        {"x": SEQUENCE},
        WeightOnlyQuantization(method="weight_only", bits=8, block_size=32),
    ),
    "convolutions": (residual_convolutions(), {"x": CHANNELS}, STATIC),
    "dilated": (
        odd_convolution(strides=[2, 1], dilations=[1, 3], pads=[1, 0, 0, 2]),
        {"x": normal(20, 4, 9, 11)},
        STATIC,
    ),
    "same padding": (
        odd_convolution(auto_pad="SAME_UPPER", strides=[1, 2]),
        {"x": normal(20, 4, 9, 11)},
        StorageQuantization(method="storage"),
    ),
    "lstm": (cell(), {"x": STEPS}, DYNAMIC),
    "two directions": (cell(bidirectional=True), {"x": STEPS}, DYNAMIC),
    "gru": (cell("GRU"), {"x": STEPS}, StorageQuantization(method="storage")),
}  # fmt: skip


@pytest.fixture(scope="module")
def prepared_cases():
    return {name: parameters_for(*case) for name, case in CASES.items()}


def all_products(model, plan):
    layers = layers_of(model).values()
    return [p for layer in layers for p in products_of(layer) if p.weight in plan.weights]


def random_codes(product, plan, parameters, generator):
    limits = np.stack([grid.qmax for grid in grids_of(product, plan, parameters)])[:, None]
    shape = product.matrices(parameters.constants[product.weight]).shape
    codes = generator.integers(-limits, limits + 1, shape)
    codes[:, 0] = np.where(generator.random(codes[:, 0].shape) < 0.5, -limits[:, 0], limits[:, 0])
    return codes


def written_codes(int8, name):
    return constant(int8.graph.initializers[f"{name}.codes"])


def assert_written(int8, product, plan, shape, codes):
    spec, expected = plan.weights[product.weight].spec, product.tensor(codes, shape)
    if spec.block is not None:
        expected = pack_blocks(expected, spec.bits, spec.block)
    if product.layer.kind == "lstm":  # the integer LSTM has them transposed
        expected = expected.transpose(0, 2, 1)
    np.testing.assert_array_equal(written_codes(int8, product.weight), expected)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 10_000))
@pytest.mark.parametrize("case", CASES)
def test_the_written_codes_are_the_chosen_ones(prepared_cases, case, seed):
    model, plan, parameters = prepared_cases[case]
    generator, chosen = np.random.default_rng(seed), {}
    for product in all_products(model, plan):
        chosen[product] = random_codes(product, plan, parameters, generator)
        parameters = with_codes(product, plan, parameters, chosen[product])
    int8 = write(model, plan, parameters, {})
    assert chosen
    for product, codes in chosen.items():
        shape = parameters.constants[product.weight].shape
        assert_written(int8, product, plan, shape, codes)


def test_narrow_channels_have_seven_bits(prepared_cases):
    model, plan, parameters = prepared_cases["column scales"]
    name = "body.1.weight"
    narrow = replace(plan.weights[name], narrow=(0, 3))
    plan = replace(plan, weights={**plan.weights, name: narrow})
    (product,) = (p for p in all_products(model, plan) if p.weight == name)
    (grid,) = grids_of(product, plan, parameters)
    assert grid.qmax[[0, 1, 3]].tolist() == [63, 127, 63]
    codes = random_codes(product, plan, parameters, np.random.default_rng(0))
    int8 = write(model, plan, with_codes(product, plan, parameters, codes), {})
    np.testing.assert_array_equal(written_codes(int8, name), codes[0])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(-25, 25), st.floats(-12, 12))
def test_column_scales_of_any_size_are_divided_back(prepared_cases, seed, column, weight):
    model, plan, parameters = prepared_cases["column scales"]
    product = next(p for p in all_products(model, plan) if plan.weights[p.weight].folds)
    folds, generator = plan.weights[product.weight].folds, np.random.default_rng(seed)
    columns, scales = parameters.activations[folds], parameters.weights[product.weight]
    spread = generator.uniform(0.1, 10, columns.scale.shape) * 10.0**column
    columns = replace(columns, scale=spread.astype(np.float32))
    scales = replace(scales, scale=(scales.scale * 10.0**weight).astype(np.float32))
    parameters = replace(
        parameters,
        activations={**parameters.activations, folds: columns},
        weights={**parameters.weights, product.weight: scales},
    )
    codes = random_codes(product, plan, parameters, generator)
    int8 = write(model, plan, with_codes(product, plan, parameters, codes), {})
    np.testing.assert_array_equal(written_codes(int8, product.weight), codes[0])


@pytest.mark.parametrize("case", CASES)
def test_matrices_and_back(prepared_cases, case):
    model, plan, parameters = prepared_cases[case]
    for product in all_products(model, plan):
        weight = parameters.constants[product.weight]
        matrices = product.matrices(weight)
        assert matrices.shape[:2] == (product.groups, product.inputs)
        np.testing.assert_array_equal(product.tensor(matrices, weight.shape), weight)


@pytest.mark.parametrize(
    "case", [n for n, c in CASES.items() if "x" in c[1] and c[1]["x"] is not STEPS]
)
def test_rows_times_matrix_is_what_the_layer_computes(prepared_cases, case):
    model, plan, parameters = prepared_cases[case]
    rows = CASES[case][1]
    for product in all_products(model, plan):
        output = name_of(product.layer.output)
        names = [name for name in (name_of(product.source), output) if name not in rows]
        values = {**rows, **Session(with_outputs(model, names), "test").run(rows)}
        read = rows_of(product, 20)(values[name_of(product.source)])
        found = read @ product.matrices(parameters.constants[product.weight])
        expected = values[output]
        channels = 1 if product.layer.kind == "conv" else -1
        bias = product.layer.bias
        expected = np.moveaxis(expected, channels, -1).reshape(-1, expected.shape[channels])
        expected = expected - (0 if bias is None else parameters.constants[name_of(bias)])
        joined = found.swapaxes(0, 1).reshape(expected.shape)
        np.testing.assert_allclose(joined, expected, atol=1e-5)


def test_a_recurrent_layer_multiplies_its_own_states(prepared_cases):
    model, plan, _ = prepared_cases["two directions"]
    own, states = all_products(model, plan)
    assert (own.groups, own.inputs, states.groups, states.inputs) == (1, 6, 2, 8)
    assert (own.reads_itself, states.reads_itself) == (False, True)
    y = run(model, {"x": STEPS})
    rows = rows_of(states, 20)(y)
    np.testing.assert_array_equal(rows[1], y[:, 1].reshape(-1, 8))


def test_a_gru_that_resets_first_keeps_what_it_multiplies_to_itself(prepared_cases):
    model, plan, _ = prepared_cases["gru"]
    assert [product.weight for product in all_products(model, plan)] == ["W"]


@pytest.mark.parametrize("case", CASES)
def test_moments_are_those_of_the_rows(prepared_cases, case):
    model, plan, parameters = prepared_cases[case]
    rows, dynamic = CASES[case][1], CASES[case][2] is DYNAMIC
    products = all_products(model, plan)
    found = moments(model, plan, parameters, products, [rows])
    size = len(next(iter(rows.values())))
    parts = [{n: a[s : s + 7] for n, a in rows.items()} for s in range(0, size, 7)]
    again = moments(model, plan, parameters, products, parts)
    for one, two in zip(found, again, strict=True):
        for goal, other, read in zip(one.goals, two.goals, one.read, strict=True):
            np.testing.assert_allclose(goal.second, goal.second.T)
            assert (np.diag(goal.second) >= read**2 - 1e-9).all()
            # The quantized layer reads nearly what FP32 reads.
            assert goal.error(goal.weight).sum() <= 0.02 * goal.power.sum()
            if dynamic:
                continue  # ranges from each batch
            np.testing.assert_allclose(goal.second, other.second, rtol=1e-6, atol=1e-9)


def test_states_that_nobody_reads_are_seen_all_the_same():
    model, plan, parameters = parameters_for(cell(states=False), {"x": STEPS}, DYNAMIC)
    own, states = all_products(model, plan)
    found = moments(model, plan, parameters, [own, states], [{"x": STEPS}])
    assert found[1].goals[0].second.shape == (8, 8)
    assert np.diag(found[1].goals[0].second).all()


def test_no_rows_are_a_data_error(prepared_cases):
    model, plan, parameters = prepared_cases["one scale"]
    with pytest.raises(DataError, match="no rows"):
        moments(model, plan, parameters, all_products(model, plan), [])


def test_layers_that_read_the_same_are_of_one_stage():
    rows = {"x": normal(20, 6, 32)}
    model, plan, _ = parameters_for(attention(), rows, STATIC)
    found = stages(model, all_products(model, plan))
    assert [[p.weight for p in stage] for stage in found] == [["q.weight", "k.weight", "v.weight"]]


def test_layers_behind_each_other_are_of_several_stages(prepared_cases):
    model, plan, _ = prepared_cases["convolutions"]
    assert [len(stage) for stage in stages(model, all_products(model, plan))] == [1, 1, 1]
