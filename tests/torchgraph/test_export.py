"""Export: symbolic batch, the same bytes each time, no noise, the module untouched."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from qtool.errors import ModelError
from qtool.graph.model_file import model_bytes
from qtool.runtime.sessions import Session
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.importer import TorchGraph

EXAMPLE = {"numeric": np.zeros((1, 3), np.float32), "category": np.zeros((1, 1), np.int64)}


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(5, 2)
        self.norm = nn.BatchNorm1d(5)
        self.body = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 1))

    def forward(self, numeric, category):
        return self.body(self.norm(torch.cat([numeric, self.table(category[:, 0])], 1))).squeeze(1)


@pytest.fixture(scope="module")
def exported():
    module = Scorer()
    return module, export_onnx(module, EXAMPLE)


def test_names_and_symbolic_batch(exported):
    _, model = exported
    shapes = {value.name: str(value.shape) for value in model.graph.inputs}
    assert shapes == {"numeric": "[batch,3]", "category": "[batch,1]"}
    assert [value.name for value in model.graph.outputs] == ["output"]


@pytest.mark.parametrize("rows", [1, 33])
def test_the_graph_equals_the_module_in_eval_mode(exported, rows):
    module, model = exported
    random = np.random.default_rng(rows)
    inputs = {
        "numeric": torch.from_numpy(random.standard_normal((rows, 3)).astype(np.float32)),
        "category": torch.from_numpy(random.integers(0, 5, (rows, 1))),
    }
    module.eval()
    expected = module(**inputs)
    module.train()
    torch.testing.assert_close(TorchGraph(model)(inputs)["output"], expected, rtol=1e-5, atol=1e-6)


def test_the_module_stays_as_it_is_and_export_is_quiet(capfd):
    module = Scorer()
    module.norm.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    first = model_bytes(export_onnx(module, EXAMPLE))
    assert capfd.readouterr() == ("", "")
    assert (module.training, module.norm.training, module.body.training) == (True, False, True)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    again = export_onnx(module, EXAMPLE)
    assert model_bytes(again) == first
    with torch.no_grad():
        module.table.weight.zero_()
    assert model_bytes(again) == first


def test_no_path_of_this_machine_is_in_the_file(exported):
    _, model = exported
    assert b".py" not in model_bytes(model)
    assert all(isinstance(v.const_value, ir.Tensor) for v in model.graph.initializers.values())


def test_other_input_names_are_an_error():
    with pytest.raises(ModelError, match=r"takes \(numeric, category\), the data gives \(x\)"):
        export_onnx(Scorer(), {"x": np.zeros((1, 3), np.float32)})


class Branching(nn.Module):
    def forward(self, x):
        return x[:, 0] if x.sum() > 0 else x[:, 1]


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x + 1


class Named(nn.Module):
    def forward(self, x):
        return {"left": x, "right": x + 1}


class Text(nn.Module):
    def forward(self, x):
        return "logit"


@pytest.mark.parametrize(
    ("module", "names"), [(TwoOutputs(), ["output_0", "output_1"]), (Named(), ["left", "right"])]
)
def test_several_outputs_keep_their_order_and_names(module, names):
    model = export_onnx(module, {"x": np.zeros((1, 3), np.float32)})
    found = Session(model, "two outputs").run({"x": np.ones((2, 3), np.float32)}, names)
    assert [array[0, 0] for array in found.values()] == [1, 2]
    assert [value.name for value in model.graph.outputs] == names


@pytest.mark.parametrize(
    ("module", "match"),
    [(Branching(), "cannot be exported to ONNX"), (Text(), "forward returns a str")],
)
def test_a_module_that_cannot_be_exported_says_why(module, match):
    with pytest.raises(ModelError, match=match):
        export_onnx(module, {"x": np.zeros((1, 3), np.float32)})


class FreshNorms(nn.Module):
    """Constants that are equal before training: ones and zeros."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.GELU(), nn.LayerNorm(4))

    def forward(self, x):
        return self.body(x)


def test_equal_vectors_are_not_tied():
    model = export_onnx(FreshNorms(), {"x": np.zeros((1, 4), np.float32)})
    vectors = [v for v in model.graph.initializers.values() if len(v.const_value.shape) == 1]
    assert len(vectors) >= 4
    assert all(len(value.uses()) == 1 for value in vectors)


class Reader(nn.Module):
    """Sums what it has read, with a state of as many steps as there were before."""

    def forward(self, steps, **state):
        read = torch.cat([state["past"], steps], dim=1)
        return {"sums": read.cumsum(1)[:, -steps.shape[1] :], "present": read}


def test_axes_of_any_size_beside_the_rows():
    example = {"steps": np.ones((1, 5, 3), np.float32), "past": np.zeros((1, 0, 3), np.float32)}
    any_size = {"steps": {1: "steps"}, "past": {1: "before"}}
    model = export_onnx(Reader(), example, any_size=any_size)
    shapes = [str(value.shape) for value in (*model.graph.inputs, *model.graph.outputs)]
    inputs = ["[batch,steps,3]", "[batch,before,3]"]
    assert shapes == [*inputs, "[batch,steps,3]", "[batch,before + steps,3]"]
    session = Session(model, "test")
    steps = np.random.default_rng(0).standard_normal((4, 7, 3)).astype(np.float32)
    state = np.zeros((4, 0, 3), np.float32)
    for size in (1, 2, 4):
        found = session.run({"steps": steps[:, :size], "past": state})
        steps, state = steps[:, size:], found["present"]
    assert state.shape == (4, 7, 3)
    np.testing.assert_allclose(found["sums"][:, -1], state.sum(axis=1), rtol=1e-5)


def test_sizes_are_constants_unless_they_are_named():
    example = {"steps": np.ones((1, 5, 3), np.float32), "past": np.zeros((1, 2, 3), np.float32)}
    model = export_onnx(Reader(), example)
    assert str(model.graph.outputs[1].shape) == "[batch,7,3]"


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        return {"left": self.left(x), "right": self.right(x), "sum": self.left(x) + 1}


def test_only_outputs_that_are_asked_for_are_exported_with_what_they_need():
    module, example = Towers(), {"x": np.ones((1, 3), np.float32)}
    model = export_onnx(module, example, ["sum", "left"])
    assert [output.name for output in model.graph.outputs] == ["sum", "left"]
    assert {tuple(v.shape.numpy()) for v in model.graph.initializers.values()} >= {(2, 3), (2,)}
    assert sum(node.op_type == "Gemm" for node in model.graph) == 1
    assert not any("right" in name for name in model.graph.initializers)
    x = torch.randn(5, 3)
    outputs = TorchGraph(model)({"x": x})
    torch.testing.assert_close(outputs["sum"], module(x)["sum"])
    with pytest.raises(ModelError, match=r"forward returns left, right, sum, and not middle"):
        export_onnx(module, example, ["middle"])


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, x):
        return {"embedding": self.table(x).relu(), "relu": self.table(x) + 1}


def test_an_output_may_have_the_name_that_torch_gives_to_a_value():
    module, example = Named(), {"x": np.ones((1, 2), np.int64)}
    model = export_onnx(module, example)
    assert [output.name for output in model.graph.outputs] == ["embedding", "relu"]
    found = Session(model_bytes(model), "the model").run(example, ["embedding", "relu"])
    for name, tensor in module(torch.from_numpy(example["x"])).items():
        np.testing.assert_allclose(found[name], tensor.detach().numpy())
