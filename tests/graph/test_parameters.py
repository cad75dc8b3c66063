from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from support.graphs import mlp
from support.quantizing import parameters_for, quantized, relative_error, run

from qtool.config.quantization import StaticQuantization
from qtool.errors import ModelError
from qtool.graph.parameters import planned_params
from qtool.graph.plan import WeightPlan
from qtool.numerics.affine import QuantSpec

ROWS = {"x": np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)}


def changed(**arrays):
    proto = ir.to_proto(mlp())
    for tensor in proto.graph.initializer:
        if tensor.name in arrays:
            old = numpy_helper.to_array(tensor)
            new = np.broadcast_to(arrays[tensor.name](old), old.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    return ir.from_proto(proto)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("size", [1, 1e-4, 1e-6, 1e-9, 1e-30, 0])
def test_a_bias_beside_tiny_weights_is_kept(size, per_channel):
    """int32 steps of input scale times weight scale would not reach it."""
    model = changed(w1=lambda w: w * np.float32(size), b1=lambda b: 3.0)
    section = StaticQuantization(method="static", per_channel=per_channel)
    _, _, int8 = quantized(model, ROWS, section)
    assert relative_error(run(int8, ROWS), run(model, ROWS)) < 0.02


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_bias_of_pruned_weights_has_room_to_be_trained(per_channel):
    model = changed(w1=lambda w: 0 * w, b1=lambda b: 3.0)
    section = StaticQuantization(method="static", per_channel=per_channel)
    _, _, parameters = parameters_for(model, ROWS, section)
    step = parameters.activations["a0"].scale * parameters.weights["w1"].scale
    # Of the 31 bits that int32 has, one is left for the products.
    assert (np.abs(3.0 * 2**6 / step) <= 2.0**30).all()
    assert (np.abs(3.0 / step) >= 2.0**23).all()


def test_narrow_channels_with_few_bits_are_narrow_already():
    weight = np.random.default_rng(1).standard_normal((9, 4)).astype(np.float32)
    spec = QuantSpec("int8", symmetric=True, axis=1, bits=4)
    narrow = planned_params(weight, WeightPlan(spec, narrow=(0, 1)))
    np.testing.assert_array_equal(narrow.scale, planned_params(weight, WeightPlan(spec)).scale)


def test_usual_scales_stay_what_the_weights_say():
    _, _, parameters = parameters_for(mlp(), ROWS, StaticQuantization(method="static"))
    weight = parameters.weights["w1"]
    assert weight.scale == np.abs(parameters.constants["w1"]).max() / np.float32(127)


def test_weights_beyond_float32_products_are_refused():
    """Behind a unit that is never on, they do no harm in FP32."""
    dead = np.arange(32) == 0
    model = changed(
        w0=lambda w: np.where(dead, 0, w),
        b0=lambda b: np.where(dead, -1, b),
        w1=lambda w: np.where(dead[:, None], 3e38, w),
    )
    rows = {"x": ROWS["x"] * np.float32(1e5)}
    assert np.isfinite(run(model, rows)).all()
    with pytest.raises(ModelError, match=r"weight 'w1': values so large"):
        quantized(model, rows)
