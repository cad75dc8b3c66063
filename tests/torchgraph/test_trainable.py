"""Which constants are trained: what a network learned, and nothing that has a meaning."""

from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from qtool.torchgraph.trainable import trainable_initializers

CASES = {
    "a scaler": ("a = Sub(x, row)  b = Div(a, other)  y = MatMul(b, w)", {"w"}),
    "a bias": ("a = MatMul(x, w)  y = Add(row, a)", {"w", "row"}),
    "a bias of convolution": ("a = Conv(cube, kernel)  y = Sum(a, column)", {"kernel", "column"}),
    "a factor behind a layer": ("a = MatMul(x, w)  b = Mul(a, row)  y = Add(b, other)", {"w"}),
    "a mask of scores": ("a = MatMul(x, x)  y = Add(a, table)", set()),
    "a positional table": (
        "a = Gather(w, ids)  b = Mul(a, root)  y = Add(b, table)",
        {"w", "table"},
    ),
    "a part of a table": (
        "a = MatMul(x, w)  p = Slice(table, zero, ids)  y = Add(a, p)",
        {"w", "table"},
    ),
    "a table added to the input": ("y = Add(x, table)", set()),
    "a feature tokenizer": ("a = Mul(thin, table)  y = Add(a, second)", {"table", "second"}),
    "a scaler of many columns": ("a = Mul(x, table)  y = Add(a, second)", set()),
    "a normalization by hand": (
        """p = Mul(x, x)  m = ReduceMean(p)  e = Add(m, root)  s = Sqrt(e)  i = Reciprocal(s)
           n = Mul(x, i)  g = Mul(n, row)  y = Add(g, other)""",
        {"row", "other"},
    ),
    "a learned token": (
        "a = MatMul(x, w)  t = Expand(token, ids)  y = Concat<axis=0>(t, a)",
        {"w", "token"},
    ),
    "a constant column": ("t = Expand(token, ids)  y = Concat<axis=0>(t, x)", set()),
    "statistics": ("y = BatchNormalization(x, row, other, other, row)", set()),
    "batch normalization": (
        "y = BatchNormalization(x, row, column, other, other)",
        {"row", "column"},
    ),
    "recurrent": ("y = LSTM<hidden_size=1>(cube, kernel, kernel, table)", {"kernel", "table"}),
}


def graph_of(program: str) -> ir.Graph:
    text = f"""
        <ir_version: 10, opset_import: ["": 20]>
        graph (float[4, 4] x, float[4, 4, 1] thin, float[4, 4, 4] cube, int64[k] ids) => (y)
        <float[4, 4] w = {{{", ".join("0" * 16)}}}, float[4, 4] table = {{{", ".join("1" * 16)}}},
         float[4, 4] second = {{{", ".join("2" * 16)}}}, float[4] row = {{1, 2, 3, 4}},
         float[4] other = {{4, 3, 2, 1}}, float[4, 1] column = {{1, 2, 3, 4}}, float root = {{2}},
         float[1, 4] token = {{1, 2, 3, 4}}, int64[1] zero = {{0}},
         float[4, 4, 1] kernel = {{{", ".join("3" * 16)}}}>
        {{ {program} }}
    """
    return ir.from_proto(onnx.parser.parse_model(text)).graph


@pytest.mark.parametrize(("program", "trained"), CASES.values(), ids=CASES)
def test_what_is_trained(program, trained):
    assert trainable_initializers(graph_of(program)) == trained


def test_fixed_values_are_not_trained():
    graph = graph_of("a = MatMul(x, w)  y = Add(row, a)")
    assert trainable_initializers(graph, {graph.initializers["w"]}) == {"row"}
