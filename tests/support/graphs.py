"""Small FP32 graphs to quantize in tests, as onnx-ir models."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper


def model_of(nodes, inputs, outputs, constants, opset=20) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def dense(generator, *shape):
    return (generator.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def fraud_like(seed=0, numeric=6, hidden=32) -> ir.Model:
    """Two embeddings beside numeric columns, two hidden layers, as torch exports them."""
    generator = np.random.default_rng(seed)
    width = numeric + 8
    constants = {
        "table.0.weight": dense(generator, 10, 4),
        "table.1.weight": dense(generator, 7, 4),
        "first": np.array(0),
        "second": np.array(1),
        "body.0.weight": dense(generator, width, hidden).T.copy(),
        "body.0.bias": dense(generator, hidden),
        "body.1.weight": dense(generator, hidden, hidden).T.copy(),
        "body.1.bias": dense(generator, hidden),
        "head.weight": dense(generator, hidden, 1).T.copy(),
        "head.bias": np.zeros(1, np.float32),
        "one": np.array([1]),
    }
    nodes = [
        helper.make_node("Gather", ["codes", "first"], ["code0"], axis=1),
        helper.make_node("Gather", ["table.0.weight", "code0"], ["row0"]),
        helper.make_node("Gather", ["codes", "second"], ["code1"], axis=1),
        helper.make_node("Gather", ["table.1.weight", "code1"], ["row1"]),
        helper.make_node("Concat", ["numeric", "row0", "row1"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "body.0.weight", "body.0.bias"], ["g0"], transB=1),
        helper.make_node("Relu", ["g0"], ["r0"]),
        helper.make_node("Gemm", ["r0", "body.1.weight", "body.1.bias"], ["g1"], transB=1),
        helper.make_node("Relu", ["g1"], ["r1"]),
        helper.make_node("Gemm", ["r1", "head.weight", "head.bias"], ["g2"], transB=1),
        helper.make_node("Squeeze", ["g2", "one"], ["output"]),
    ]
    inputs = [
        ("numeric", TensorProto.FLOAT, ["batch", numeric]),
        ("codes", TensorProto.INT64, ["batch", 2]),
    ]
    return model_of(nodes, inputs, [("output", TensorProto.FLOAT, ["batch"])], constants)


def fraud_rows(rows, seed=1, numeric=6):
    generator = np.random.default_rng(seed)
    amounts = generator.standard_t(3, (rows, numeric)).clip(-8, 8).astype(np.float32)
    amounts[:, 1:3] = generator.integers(0, 2, (rows, 2))
    codes = np.column_stack([generator.integers(0, 10, rows), generator.integers(0, 7, rows)])
    return {"numeric": amounts, "codes": codes}


def mlp(activation="Relu", opset=20, matmul=False, **attributes) -> ir.Model:
    """Three dense layers with one activation between them."""
    generator = np.random.default_rng(3)
    constants, nodes, x = {}, [], "x"
    widths = [8, 32, 32, 1]
    for index, (width, following) in enumerate(pairwise(widths)):
        constants[f"w{index}"] = dense(generator, width, following)
        constants[f"b{index}"] = dense(generator, following)
        if matmul:
            nodes.append(helper.make_node("MatMul", [x, f"w{index}"], [f"m{index}"]))
            nodes.append(helper.make_node("Add", [f"m{index}", f"b{index}"], [f"g{index}"]))
        else:
            nodes.append(helper.make_node("Gemm", [x, f"w{index}", f"b{index}"], [f"g{index}"]))
        x = f"g{index}"
        if index < 2:
            nodes.append(helper.make_node(activation, [x], [f"a{index}"], **attributes))
            x = f"a{index}"
    inputs, outputs = (
        [("x", TensorProto.FLOAT, ["batch", 8])],
        [(x, TensorProto.FLOAT, ["batch", 1])],
    )
    return model_of(nodes, inputs, outputs, constants, opset)
