"""Shape arithmetic outside of torch: the same numbers as ONNX Runtime, and no tensors."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from qtool.torchgraph.importer import TorchGraph

CONSTANTS = """
    int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] last = {-1},
    int64[1] far = {9223372036854775807}, int64 first = {0}, int64[2] pair = {2, 0},
    int64[3] wanted = {-1, 1, 7}, int64[3] minus = {-1, -1, -1}, int64[0] scalar = {},
    int64 three = {-3}
"""
PROGRAMS = {
    "gather": "y = Gather(s, pair)",
    "scalar": "y = Gather(s, first)",
    "slice": "y = Slice(s, one, far)",
    "slice backwards": "y = Slice(s, last, minimum, zero, last)",
    "concat": "a = Gather(s, first)  b = Unsqueeze(a, zero)  y = Concat<axis=0>(b, last, s)",
    "squeeze": "a = Slice(s, one, two)  y = Squeeze(a, zero)",
    "reshape": "a = Gather(s, first)  b = Reshape(a, last)  y = Reshape(b, scalar)",
    "arithmetic": "a = Mul(s, two)  b = Sub(a, one)  c = Neg(b)  y = Div(c, two)",
    "divided by a negative": "a = Add(s, one)  y = Div(a, three)",
    "where": "c = Equal(wanted, minus)  y = Where(c, s, wanted)",
    "compared": "y = Greater(s, two)",
    "limits": "a = Max(s, two)  y = Min(a, wanted)",
    "product": "y = ReduceProd<keepdims=0>(s)",
    "sum": "y = ReduceSum(s)",
    "largest": "y = ReduceMax<keepdims=0>(s)",
    "cast": "c = Less(s, two)  y = Cast<to=7>(c)",
    "size": "y = Size(x)",
    "vector": "y = Unsqueeze(s, zero)",
    "shape of a shape": "y = Shape(s)",
    "float": "y = Cast<to=1>(s)",
}


def model_of(program: str) -> ir.Model:
    text = f"""
        <ir_version: 10, opset_import: ["": 20]>
        graph (float[a, b, c] x) => (y)
        <{CONSTANTS}, int64[1] minimum = {{-9223372036854775807}}>
        {{ s = Shape(x)  {program} }}
    """
    model = ir.from_proto(onnx.parser.parse_model(text))
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    return model


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_equals_onnx_runtime(program):
    model = model_of(program)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    graph = TorchGraph(model)
    for shape in [(2, 3, 4), (5, 1, 2)]:
        x = np.zeros(shape, np.float32)
        (expected,) = session.run(None, {"x": x})
        found = graph({"x": torch.from_numpy(x)})["y"].numpy()
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"vector", "float"}))
def test_no_tensor_is_made(name):
    graph = TorchGraph(model_of(PROGRAMS[name]))
    values = graph.start({"x": torch.zeros(2, 3, 4)})
    for step in graph.steps:
        result = step.function(*[values[slot] for slot in step.inputs])
        assert not isinstance(result, torch.Tensor)
        values[step.outputs[0]] = result


def test_what_is_constant_is_computed_once():
    graph = TorchGraph(model_of("a = Add(one, two)  b = Mul(a, a)  y = Expand(b, s)"))
    assert [graph.nodes[step.name].op_type for step in graph.steps] == ["Shape", "Expand"]
    assert graph({"x": torch.zeros(1, 1, 2)})["y"].flatten().tolist() == [9, 9]
