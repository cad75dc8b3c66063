"""A layer that is used in several places stays one layer, though ``prepare`` copies its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qtool.graph.parameters import with_constants
from qtool.graph.prepare.pipeline import prepare
from qtool.runtime.sessions import Session
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.importer import TorchGraph


class Twice(nn.Module):
    """One layer, used twice; fresh biases of different layers are equal too."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.first, self.last = layer, nn.Linear(6, 6), nn.Linear(6, 6)
        nn.init.zeros_(self.first.bias)
        nn.init.zeros_(self.last.bias)

    def forward(self, x):
        x = self.first(x)
        for _ in range(2):
            y = self.layer(x)
            x = torch.tanh(y[0] if isinstance(y, tuple) else y)
        return self.last(x)


def rows(count):
    return {"x": np.random.default_rng(1).standard_normal((count, 5, 6)).astype(np.float32)}


def size(module):
    return sum(parameter.numel() for parameter in module.parameters())


def gradient_norm(module):
    return torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm()


def trained_layer_norm():
    layer = nn.LayerNorm(6)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    return layer


LAYERS = {
    "Linear": lambda: nn.Linear(6, 6),
    "unrolled RNN": lambda: nn.RNN(6, 6, batch_first=True),
    "LSTM": lambda: nn.LSTM(6, 6, batch_first=True),
    "LayerNorm": trained_layer_norm,
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_has_one_parameter_with_the_gradient_of_all_its_uses(layer):
    torch.manual_seed(3)
    module = Twice(layer()).eval()
    graph = TorchGraph(prepare(export_onnx(module, rows(2))))
    assert size(graph) == size(module)
    x = torch.from_numpy(rows(7)["x"])
    graph({"x": x})["output"].square().sum().backward()
    module(x).square().sum().backward()
    torch.testing.assert_close(gradient_norm(graph), gradient_norm(module), rtol=1e-4, atol=0)


def test_every_copy_is_written_back():
    torch.manual_seed(3)
    prepared = prepare(export_onnx(Twice(nn.Linear(6, 6)).eval(), rows(2)))
    graph = TorchGraph(prepared)
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    expected = graph({"x": torch.from_numpy(rows(7)["x"])})["output"].detach().numpy()
    written = with_constants(prepared, graph.weights())
    (output,) = Session(written, "test").run(rows(7), ["output"]).values()
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
