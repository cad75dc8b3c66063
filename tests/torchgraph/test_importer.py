"""The graph as a module: outputs, inner values, gradients, errors."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torchgraph.graphs import scoring_inputs, scoring_model

from qtool.errors import ModelError
from qtool.graph.model_file import model_bytes
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.importer import TorchGraph


class Tabular(nn.Module):
    """Embedding, layer norm and an MLP: what the exporter makes of a usual tabular model."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 3)
        self.scale = nn.LayerNorm(4)
        self.body = nn.Sequential(nn.Linear(7, 8), nn.GELU(), nn.Linear(8, 2))

    def forward(self, numeric, category):
        joined = torch.cat([self.scale(numeric), self.table(category)], dim=-1)
        return self.body(joined).softmax(-1)


@pytest.mark.parametrize("rows", [1, 33, 257])
def test_equals_onnx_runtime_at_every_batch_size(rows):
    model, inputs = scoring_model(), scoring_inputs(rows)
    session = onnxruntime.InferenceSession(model_bytes(model))
    (expected,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    found = TorchGraph(model)(inputs)["output"].detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_gradients_equal_those_of_the_native_module():
    torch.manual_seed(2)
    module, inputs = Tabular().eval(), scoring_inputs(64)
    example = {name: tensor.numpy() for name, tensor in inputs.items()}
    graph = TorchGraph(export_onnx(module, example))
    native, imported = module(**inputs), graph(inputs)["output"]
    torch.testing.assert_close(imported, native, rtol=1e-5, atol=1e-6)
    direction = torch.randn_like(native)
    (native * direction).sum().backward()
    (imported * direction).sum().backward()
    pairs = 0
    for name, parameter in module.named_parameters():
        attribute = graph.parameter_names.get(name)
        if attribute is None:
            continue
        gradient = getattr(graph, attribute).grad
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)
        pairs += 1
    assert pairs == len(list(module.parameters()))


def test_capture_returns_inner_values():
    graph, inputs = TorchGraph(scoring_model()), scoring_inputs(5)
    found = graph(inputs, capture=["joined", "h1"])
    assert set(found) == {"output", "joined", "h1"}
    torch.testing.assert_close(found["joined"][:, :4], inputs["numeric"])


def test_weights_keep_their_names_and_values():
    model = scoring_model()
    weights = TorchGraph(model).weights()
    assert set(weights) == set(model.graph.initializers)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, model.graph.initializers[name].const_value.numpy())


def test_a_teacher_is_frozen():
    graph = TorchGraph(scoring_model(), trainable=False)
    assert not graph(scoring_inputs(3))["output"].requires_grad


def test_training_changes_neither_the_model_nor_a_second_graph():
    model, inputs = scoring_model(), scoring_inputs(5)
    first, second = TorchGraph(model), TorchGraph(model)
    before = model_bytes(model)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert first(inputs)["output"].abs().max() == 0
    assert second(inputs)["output"].abs().max() > 0
    assert model_bytes(model) == before


def test_matmul_and_add_are_trained_but_a_scaler_is_not():
    constants = {"mean": [3.0, 1.0], "w": [[1.0], [2.0]], "b": [0.5]}
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"], name="scaler"),
        helper.make_node("MatMul", ["centred", "w"], ["product"], name="product"),
        helper.make_node("Add", ["b", "product"], ["output"], name="bias"),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opset, ir_version=10))
    assert set(TorchGraph(model).parameter_names) == {"w", "b"}


def test_a_missing_input_is_named():
    with pytest.raises(ModelError, match=r"model input 'category': not given \(given: numeric\)"):
        TorchGraph(scoring_model())({"numeric": torch.zeros(2, 4)})


def test_a_node_that_cannot_run_is_named():
    inputs = scoring_inputs(2) | {"category": torch.tensor([0, 6])}
    with pytest.raises(ModelError, match="node 'lookup'"):
        TorchGraph(scoring_model())(inputs)


def test_constants_move_with_the_parameters():
    torch.manual_seed(3)
    module, inputs = Tabular().eval(), scoring_inputs(9)
    example = {name: tensor.numpy() for name, tensor in inputs.items()}
    graph = TorchGraph(export_onnx(module, example)).double()
    exact = {**inputs, "numeric": inputs["numeric"].double()}
    found = graph(exact)["output"]
    torch.testing.assert_close(found, module.double()(**exact), rtol=1e-12, atol=1e-12)
