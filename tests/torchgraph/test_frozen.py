"""Nodes that ONNX Runtime computes inside the torch graph."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from qtool.errors import ConfigError, ModelError
from qtool.runtime.sessions import Session
from qtool.torchgraph.frozen import Frozen
from qtool.torchgraph.importer import TorchGraph


def model_of(body: str) -> ir.Model:
    text = f"""
        <ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]>
        graph (float[rows, 2] x) => (float[rows, 3] y)
        <float[2, 3] w = {{1, 2, 3, 4, 5, 6}}, float[3] c = {{1, -1, 2}}, float zero = {{0}},
         int64[1] k = {{3}}>
        {{ {body} }}
    """
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))
    for node in model.graph:
        node.name = f"{node.op_type.lower()}.{node.outputs[0].name}"
        if node.domain:
            node.outputs[0].dtype = ir.DataType.FLOAT
    return model


def load(model, where):
    return Session(model, where).run


def compare(model, frozen, rows=4):
    x = np.linspace(-1, 1, 2 * rows, dtype=np.float32).reshape(rows, 2)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    graph = TorchGraph(model, frozen=Frozen((frozen,), load))
    inputs = torch.from_numpy(x).requires_grad_()
    found = graph({"x": inputs})["y"]
    np.testing.assert_allclose(found.detach().numpy(), session.run(None, {"x": x})[0], rtol=1e-5)
    return graph, found, inputs


@pytest.mark.parametrize("pattern", ["BiasGelu", "biasgelu.*"])
def test_an_operator_of_another_domain(pattern):
    body = "h = MatMul(x, w)  g = com.microsoft.BiasGelu(h, c)  y = Add(g, h)"
    graph, found, inputs = compare(model_of(body), pattern)
    assert set(graph.parameter_names) == {"w"}
    found.sum().backward()
    # Only the way beside the frozen node is trained: y = ... + x @ w.
    expected = inputs.detach().sum(0)[:, None].expand(2, 3)
    torch.testing.assert_close(next(graph.parameters()).grad, expected)


def test_what_a_frozen_node_reads_is_not_trained():
    graph, found, _ = compare(model_of("y = MatMul(x, w)"), "MatMul")
    assert not graph.parameter_names
    assert not found.requires_grad


def test_a_branch_reads_values_from_outside():
    body = """
        h = MatMul(x, w)  m = ReduceMax<keepdims=0>(x)  large = Greater(m, zero)
        y = If(large) <
            then_branch = t () => (p) { p = Mul(h, c) },
            else_branch = e () => (q) { q = Neg(h) }
        >
    """
    compare(model_of(body), "If")


def test_several_outputs():
    body = "h = MatMul(x, w)  a, i = TopK(h, k)  j = Cast<to=1>(i)  y = Add(a, j)"
    compare(model_of(body), "TopK")


def test_a_pattern_that_matches_nothing():
    with pytest.raises(ConfigError, match=r"train_qat.frozen: 'Gelu\*' matches no node.*MatMul"):
        TorchGraph(model_of("y = MatMul(x, w)"), frozen=Frozen(("Gelu*",), load))


def test_an_unknown_operator_says_what_to_do():
    model = model_of("h = MatMul(x, w)  y = com.microsoft.BiasGelu(h, c)")
    with pytest.raises(ModelError, match=r"'biasgelu.y'.*BiasGelu.*train_qat.frozen"):
        TorchGraph(model)
