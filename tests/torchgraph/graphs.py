"""A small prepared graph with two tables, a column-wise input, three dense layers, and its plan."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper

from qtool.graph.plan import NodePlan, Plan, WeightPlan
from qtool.numerics.affine import QuantParams, QuantSpec, choose_qparams

COLUMNS = QuantSpec("uint8", symmetric=False, axis=1)
TENSOR = QuantSpec("uint8", symmetric=False)
HIDDEN = 16
NODES = (
    ("lookup", "Gather", "storage"),
    ("join", "Concat", "static"),
    ("fc1", "Gemm", "static"),
    ("relu1", "Relu", "static"),
    ("fc2", "Gemm", "static"),
    ("relu2", "Relu", "static"),
    ("fc3", "Gemm", "static"),
)


def scoring_model(seed=0, hidden=HIDDEN) -> ir.Model:
    """numeric (rows, 4) and category (rows,) → Concat → Gemm → Relu → Gemm → Relu → Gemm."""
    random = np.random.default_rng(seed)

    def matrix(*shape):
        return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    constants = {
        "table.weight": matrix(6, 3),
        "fc1.weight": matrix(7, hidden),
        "fc1.bias": matrix(hidden),
        "fc2.weight": matrix(hidden, hidden),
        "fc2.bias": matrix(hidden),
        "fc3.weight": matrix(hidden, 1),
        "fc3.bias": matrix(1),
    }
    dense = [
        helper.make_node("Gemm", [x, f"{layer}.weight", f"{layer}.bias"], [y], name=layer)
        for layer, x, y in [("fc1", "joined", "z1"), ("fc2", "h1", "z2"), ("fc3", "h2", "output")]
    ]
    nodes = [
        helper.make_node("Gather", ["table.weight", "category"], ["row"], name="lookup"),
        helper.make_node("Concat", ["numeric", "row"], ["joined"], name="join", axis=1),
        dense[0],
        helper.make_node("Relu", ["z1"], ["h1"], name="relu1"),
        dense[1],
        helper.make_node("Relu", ["z2"], ["h2"], name="relu2"),
        dense[2],
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("category", TensorProto.INT64, ["batch"]),
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))


def scoring_inputs(rows, seed=1) -> dict[str, torch.Tensor]:
    """Columns of very different size: an amount, a ratio, a flag, a count."""
    random = np.random.default_rng(seed)
    numeric = random.standard_normal((rows, 4)).astype(np.float32)
    numeric[:, 0] *= 50
    numeric[:, 2] = numeric[:, 2] > 0
    numeric[:, 3] = np.round(numeric[:, 3] * 3)
    category = random.integers(0, 6, rows)
    return {"numeric": torch.from_numpy(numeric), "category": torch.from_numpy(category)}


def scoring_plan(weight_bits=8, per_channel=False, stored_table=False) -> Plan:
    weight = QuantSpec("int8", symmetric=True, axis=1 if per_channel else None, bits=weight_bits)
    weights = {
        "fc1.weight": WeightPlan(weight, folds="joined"),
        "fc2.weight": WeightPlan(weight),
        "fc3.weight": WeightPlan(weight),
    }
    if stored_table:
        weights["table.weight"] = WeightPlan(QuantSpec("int8", symmetric=True, axis=1))
    return Plan(
        method="static",
        target="x86_vnni",
        model_sha256="",
        nodes=tuple(NodePlan(*node, "by hand") for node in NODES),
        activations={"joined": COLUMNS, "h1": TENSOR, "h2": TENSOR},
        weights=weights,
        biases={
            "fc1.bias": ("joined", "fc1.weight"),
            "fc2.bias": ("h1", "fc2.weight"),
            "fc3.bias": ("h2", "fc3.weight"),
        },
    )


def minmax_activations(graph, plan, inputs) -> dict[str, QuantParams]:
    """Min-max parameters of every planned activation over ``inputs``."""
    values = graph(inputs, capture=list(plan.activations))
    found = {}
    for name, spec in plan.activations.items():
        array = values[name].detach().numpy()
        over = 0 if spec.axis == 1 else None
        found[name] = choose_qparams(array.min(axis=over), array.max(axis=over), spec)
    return found
