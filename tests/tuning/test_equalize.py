from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support.graphs import (
    attention,
    mlp,
    residual_convolutions,
    residual_mlp,
    sequence_dense,
)

from qtool.config.tuning import Equalize
from qtool.errors import ConfigError
from qtool.evaluation.equality import check_equal
from qtool.graph.prepare.pipeline import prepare
from qtool.numerics.affine import QuantSpec
from qtool.numerics.smoothing import rounding_error
from qtool.progress import SilentProgress
from qtool.tuning.equalize import equalize


def normal(*shape, seed=1):
    return {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}


def equalized(model, inputs, match="*"):
    """Returns prepared graph, equalized graph and records by layer, the two graphs being equal."""
    prepared = prepare(model)

    def rows(count):
        yield {name: array[:count] for name, array in inputs.items()}

    section = Equalize(method="equalize", match=match)
    changed, records = equalize(prepared, section, rows, SilentProgress())
    check_equal(prepared, changed, [inputs])
    assert len(list(changed.graph)) == len(list(prepared.graph))
    assert all(record.after <= record.before for record in records)
    return prepared, changed, {record.layer: record for record in records}


def weights(model):
    return {
        name: value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if len(value.shape) > 1
    }


def uneven(model, seed=0, spread=2.0):
    """Gives every column of every matrix another size."""
    generator = np.random.default_rng(seed)
    for name, weight in weights(model).items():
        factors = np.exp(generator.normal(0, spread, weight.shape[1])).astype(np.float32)
        model.graph.initializers[name].const_value = ir.tensor(weight * factors, name=name)
    return model


def rounding_share(weight):
    """Squared error of 8-bit rounding with one scale, summed over columns, each as a share."""
    error = rounding_error(weight, QuantSpec("int8", symmetric=True))
    return float(((error**2).sum(axis=0) / (weight**2).sum(axis=0)).mean())


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_both_weights_of_a_pair_get_the_same_ranges(activation):
    model = uneven(sequence_dense(activation=activation))
    prepared, changed, records = equalized(model, normal(32, 5, 16))
    found = weights(changed)
    first, second = np.abs(found["w0"]).max(axis=0), np.abs(found["w1"]).max(axis=1)
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert 1 - records["down"].after > 1.8 * (1 - records["down"].before)
    assert "is an input of the model" in records["up"].reason
    assert rounding_share(found["w0"]) < rounding_share(weights(prepared)["w0"]) / 2


def test_a_chain_settles():
    _, changed, records = equalized(uneven(mlp()), normal(32, 8))
    found = weights(changed)
    for first, second in (("w0", "w1"), ("w1", "w2")):
        ranges = np.abs(found[first]).max(axis=0), np.abs(found[second]).max(axis=1)
        np.testing.assert_allclose(*ranges, rtol=0.01)
    assert [record.reason == "" for record in records.values()] == [False, True, True]


def test_a_chain_of_one_match_leaves_the_other_layers_alone():
    prepared, changed, records = equalized(uneven(mlp()), normal(32, 8), match="node_4")
    assert list(records) == ["node_4"]
    np.testing.assert_array_equal(weights(prepared)["w0"], weights(changed)["w0"])
    assert (weights(prepared)["w1"] != weights(changed)["w1"]).any()


@pytest.mark.parametrize("pool", [False, True])
def test_convolutions(pool):
    _, _, records = equalized(residual_convolutions(pool=pool), normal(8, 4, 20))
    assert "reads its input, too" in records["body.0"].reason


def test_a_residual_stream_is_left_alone():
    _, _, records = equalized(uneven(residual_mlp()), normal(16, 32))
    assert records["down0"].reason == ""
    assert "reads its input, too" in records["up0"].reason


def test_products_of_activations_say_why_not():
    _, _, records = equalized(attention(), normal(8, 6, 32))
    assert records["mix"].reason == "no dense layer and no convolution"


def test_dead_channels():
    model = uneven(mlp())
    weight = weights(model)["w0"].copy()
    weight[:, 4] = 0
    model.graph.initializers["w0"].const_value = ir.tensor(weight, name="w0")
    _, changed, _ = equalized(model, normal(16, 8))
    assert all(np.isfinite(array).all() for array in weights(changed).values())


def test_a_match_without_layers_is_an_error():
    with pytest.raises(ConfigError, match=r"quantization.tuning: 'Relu' matches no layer"):
        equalized(mlp(), normal(8, 8), match="Relu")
