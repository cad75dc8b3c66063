from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from support.graphs import mlp
from support.quantizing import parameters_for, quantized, relative_error, run

from qtool.config.quantization import StaticQuantization
from qtool.errors import ModelError

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
