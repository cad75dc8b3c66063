from __future__ import annotations

import numpy as np
import pytest
from support.graphs import mlp
from support.quantizing import quantized

from qtool.config.quantization import DynamicQuantization
from qtool.errors import ModelError
from qtool.graph.model_file import model_bytes
from qtool.runtime.kernels import INTEGER_KERNELS, kernels_of

ROWS = {"x": np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)}


def operators(model):
    return [kernel.op_type for kernel in kernels_of(model_bytes(model), "test")]


def test_an_fp32_model_has_no_integer_kernel():
    found = operators(mlp())
    assert not INTEGER_KERNELS & set(found)
    assert {"Gemm", "FusedGemm"} & set(found)


@pytest.mark.parametrize(
    ("section", "kernel"),
    [(None, "QGemm"), (DynamicQuantization(method="dynamic"), "DynamicQuantizeMatMul")],
    ids=["static", "dynamic"],
)
def test_every_layer_of_a_quantized_model_is_an_integer_kernel(section, kernel):
    _, _, model = quantized(mlp(), ROWS, section)
    found = operators(model)
    assert found.count(kernel) == 3
    assert not {"Gemm", "MatMul", "FusedGemm", "FusedMatMul"} & set(found)


def test_kernels_keep_the_names_of_tensors():
    _, _, model = quantized(mlp(), ROWS)
    kernels = kernels_of(model_bytes(model), "test")
    assert "x" in kernels[0].inputs
    assert kernels[-1].outputs == (model.graph.outputs[0].name,)


def test_a_model_that_does_not_load_is_named():
    with pytest.raises(ModelError, match=r"^broken: ONNX Runtime"):
        kernels_of(b"nothing", "broken")


def test_nothing_is_left_in_the_temporary_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kernels_of(model_bytes(mlp()), "test")
    assert not list(tmp_path.iterdir())
