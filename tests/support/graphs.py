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


def mlp(activation="Relu", opset=20, matmul=False, outputs=1, **attributes) -> ir.Model:
    """Three dense layers with one activation between them."""
    generator = np.random.default_rng(3)
    constants, nodes, x = {}, [], "x"
    widths = [8, 32, 32, outputs]
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
    inputs, found = (
        [("x", TensorProto.FLOAT, ["batch", 8])],
        [(x, TensorProto.FLOAT, ["batch", outputs])],
    )
    return model_of(nodes, inputs, found, constants, opset)


def sequence_dense(bias=True, activation=None) -> ir.Model:
    """Two dense layers on (batch, 5, 16), as torch exports Linear on sequences."""
    generator = np.random.default_rng(4)
    constants = {"w0": dense(generator, 16, 32), "w1": dense(generator, 32, 8)}
    constants |= {"b0": dense(generator, 32), "b1": dense(generator, 8)}
    nodes = [helper.make_node("MatMul", ["x", "w0"], ["m0"], name="up")]
    hidden = "m0"
    if bias:
        nodes.append(helper.make_node("Add", ["b0", "m0"], ["h0"], name="up_bias"))
        hidden = "h0"
    if activation:
        nodes.append(helper.make_node(activation, [hidden], ["a0"]))
        hidden = "a0"
    nodes.append(helper.make_node("MatMul", [hidden, "w1"], ["m1"], name="down"))
    nodes.append(helper.make_node("Add", ["m1", "b1"], ["y"], name="down_bias"))
    if not bias:
        del constants["b0"]
    inputs = [("x", TensorProto.FLOAT, ["batch", 5, 16])]
    return model_of(nodes, inputs, [("y", TensorProto.FLOAT, ["batch", 5, 8])], constants)


def residual_convolutions(activation="Relu", channels=8, pool=False) -> ir.Model:
    """stem → conv → activation → add to the stem → activation → conv, 1-D, on (batch, 4, 20)."""
    generator = np.random.default_rng(5)

    def weight(outputs, inputs, taps):
        scale = np.sqrt(inputs * taps)
        return (generator.standard_normal((outputs, inputs, taps)) / scale).astype(np.float32)

    constants = {
        "w0": weight(channels, 4, 1),
        "w1": weight(channels, channels, 3),
        "w2": weight(channels, channels, 3),
        "b1": dense(generator, channels),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], name="stem"),
        helper.make_node("Conv", ["c0", "w1", "b1"], ["c1"], name="body.0", pads=[1, 1]),
        helper.make_node(activation, ["c1"], ["a1"], name="act1"),
        helper.make_node("Add", ["c0", "a1"], ["s1"], name="residual"),
        helper.make_node(activation, ["s1"], ["a2"], name="act2"),
    ]
    last = "a2"
    if pool:
        nodes.append(helper.make_node("MaxPool", ["a2"], ["p"], name="pool", kernel_shape=[2]))
        nodes.append(helper.make_node("Concat", ["p", "p"], ["j"], name="join", axis=1))
        constants["w2"] = weight(channels, 2 * channels, 3)
        last = "j"
    nodes.append(helper.make_node("Conv", [last, "w2"], ["y"], name="body.1", pads=[1, 1]))
    inputs = [("x", TensorProto.FLOAT, ["batch", 4, 20])]
    outputs = [("y", TensorProto.FLOAT, ["batch", channels, 10 if pool else 20])]
    return model_of(nodes, inputs, outputs, constants)


def attention(width=32, heads=4, steps=6) -> ir.Model:
    """One attention block with separate projections on (batch, steps, width)."""
    generator = np.random.default_rng(6)
    constants: dict[str, np.ndarray] = {
        "split": np.array([0, steps, heads, width // heads]),
        "joined": np.array([0, steps, width]),
        "scale": np.array((width // heads) ** -0.5, np.float32),
    }
    nodes = []
    for name, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        constants[f"{name}.weight"] = dense(generator, width, width)
        constants[f"{name}.bias"] = dense(generator, width)
        nodes += [
            helper.make_node("MatMul", ["x", f"{name}.weight"], [f"{name}.m"]),
            helper.make_node("Add", [f"{name}.m", f"{name}.bias"], [f"{name}.h"]),
            helper.make_node("Reshape", [f"{name}.h", "split"], [f"{name}.r"]),
            helper.make_node("Transpose", [f"{name}.r"], [f"{name}.t"], perm=perm),
        ]
    nodes += [
        helper.make_node("MatMul", ["q.t", "k.t"], ["scores"], name="scores"),
        helper.make_node("Mul", ["scores", "scale"], ["scaled"], name="scale"),
        helper.make_node("Softmax", ["scaled"], ["shares"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["shares", "v.t"], ["mixed"], name="mix"),
        helper.make_node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["back", "joined"], ["y"]),
    ]
    shape = ["batch", steps, width]
    ends = [("x", TensorProto.FLOAT, shape)], [("y", TensorProto.FLOAT, shape)]
    return model_of(nodes, *ends, constants)


def recurrent(kind="LSTM", hidden=16, inputs=6, bidirectional=False) -> ir.Model:
    """One LSTM or GRU on (steps, batch, inputs)."""
    generator = np.random.default_rng(7)
    gates, ways = (4 if kind == "LSTM" else 3), 2 if bidirectional else 1
    constants = {
        "W": generator.standard_normal((ways, gates * hidden, inputs)).astype(np.float32) / 3,
        "R": generator.standard_normal((ways, gates * hidden, hidden)).astype(np.float32) / 4,
        "B": generator.standard_normal((ways, 2 * gates * hidden)).astype(np.float32) / 10,
    }
    direction = "bidirectional" if bidirectional else "forward"
    node = helper.make_node(
        kind, ["x", "W", "R", "B"], ["y"], name="cell", hidden_size=hidden, direction=direction
    )
    ends = (
        [("x", TensorProto.FLOAT, [5, "batch", inputs])],
        [("y", TensorProto.FLOAT, [5, ways, "batch", hidden])],
    )
    return model_of([node], *ends, constants)


def residual_mlp(blocks=2, width=32) -> ir.Model:
    """Blocks relu(x + dense(relu(dense(x)))) and a head."""
    generator = np.random.default_rng(8)
    constants, nodes, x = {}, [], "x"

    def layer(name, source, outputs):
        constants[f"{name}.weight"] = dense(generator, width, outputs)
        constants[f"{name}.bias"] = dense(generator, outputs)
        inputs = [source, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node("Gemm", inputs, [name], name=name))
        return name

    nodes.append(helper.make_node("Relu", [layer("stem", x, width)], ["s"], name="stem_relu"))
    x = "s"
    for index in range(blocks):
        inner = layer(f"up{index}", x, width)
        nodes.append(helper.make_node("Relu", [inner], [f"r{index}"], name=f"relu{index}"))
        down = layer(f"down{index}", f"r{index}", width)
        nodes.append(helper.make_node("Add", [x, down], [f"a{index}"], name=f"add{index}"))
        nodes.append(helper.make_node("Relu", [f"a{index}"], [f"o{index}"], name=f"out{index}"))
        x = f"o{index}"
    layer("head", x, 1)
    inputs = [("x", TensorProto.FLOAT, ["batch", width])]
    return model_of(nodes, inputs, [("head", TensorProto.FLOAT, ["batch", 1])], constants)
