from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import attention, mlp, model_of

from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.sessions import Session
from qtool.torchgraph.sensitivity import differentiable, projected_gradients

ENDS = [("x", TensorProto.FLOAT, ["batch", 2])], [("y", TensorProto.FLOAT, ["batch", 2])]


def load(model, where):
    return Session(model, where).run


def generator():
    return np.random.default_rng(0)


def two_layers(between=()):
    constants = {
        "a": np.eye(2, dtype=np.float32),
        "b": np.zeros(2, np.float32),
        "c": np.array([[3, 0], [4, 1]], np.float32),
    }
    last = between[-1].output[0] if between else "h"
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"], name="first"),
        *between,
        helper.make_node("Gemm", [last, "c", "b"], ["y"], name="second"),
    ]
    return model_of(nodes, *ENDS, constants)


def test_one_dense_layer_by_hand():
    # y = h C, so that the gradient is C v.
    graph = differentiable(two_layers(), load)
    rows = {"x": np.ones((4, 2), np.float32)}
    found = projected_gradients(graph, rows, ["h", "y"], {"y": 0.5}, generator())
    signs = found["y"] / 0.5
    assert set(np.unique(signs)) == {-1.0, 1.0}
    expected = 0.5 * signs @ np.array([[3, 4], [0, 1]], np.float32)
    np.testing.assert_allclose(found["h"], expected)


def test_squares_of_projections_are_the_change_of_the_outputs():
    # d C is (3, 0) for d = (1, 0), (4, 1) for (0, 1), (7, 1) for (1, 1).
    graph, random = differentiable(two_layers(), load), generator()
    rows = {"x": np.zeros((3, 2), np.float32)}
    change = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    drawn = [projected_gradients(graph, rows, ["h"], {"y": 1.0}, random)["h"] for _ in range(2000)]
    mean = np.mean([(found * change).sum(axis=1) ** 2 for found in drawn], axis=0)
    np.testing.assert_allclose(mean, [9, 17, 50], rtol=0.08)


def test_all_layers_of_a_network_are_reached():
    model = prepare(attention())
    names = [str(node.outputs[0].name) for node in model.graph if node.op_type == "MatMul"]
    rows = {"x": np.random.default_rng(1).standard_normal((3, 6, 32)).astype(np.float32)}
    found = projected_gradients(
        differentiable(model, load), rows, names, {model.graph.outputs[0].name: 1.0}, generator()
    )
    assert set(found) == set(names)
    assert all(np.isfinite(gradient).all() for gradient in found.values())


def test_first_order_changes_are_those_of_a_small_step():
    model = prepare(mlp("Tanh"))
    graph, output = differentiable(model, load), model.graph.outputs[0].name
    rows = {"x": np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)}
    step = np.float32(1e-3) * np.ones((5, 8), np.float32)
    before, after = (load(model, "test")({"x": rows["x"] + part})[output] for part in (0, step))
    graph_inputs = projected_gradients(graph, rows, [output], {output: 1.0}, generator())
    signs = graph_inputs[output]
    first = model.graph[0].outputs[0].name
    gradient = projected_gradients(graph, rows, [first], {output: 1.0}, generator())[first]
    weight = model.graph[0].inputs[1].const_value.numpy()
    found = (gradient * (step @ weight)).sum(axis=1)
    np.testing.assert_allclose(found, (signs * (after - before)).sum(axis=1), rtol=0.02)


def test_gradients_end_behind_an_operator_that_torch_does_not_have():
    between = [helper.make_node("MeanVarianceNormalization", ["h"], ["z"], name="odd", axes=[1])]
    model = prepare(two_layers(between))
    graph = differentiable(model, load)
    assert graph.frozen == {"odd"}
    rows = {"x": np.random.default_rng(1).standard_normal((4, 2)).astype(np.float32)}
    found = projected_gradients(graph, rows, ["h", "y"], {"y": 1.0}, generator())
    assert set(found) == {"y"}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_decides_the_signs(seed):
    graph = differentiable(two_layers(), load)
    rows = {"x": np.ones((8, 2), np.float32)}

    def gradient(number):
        random = np.random.default_rng(number)
        return projected_gradients(graph, rows, ["h"], {"y": 1.0}, random)["h"]

    np.testing.assert_array_equal(gradient(seed), gradient(seed))
    assert (gradient(seed) != gradient(seed + 2)).any()
