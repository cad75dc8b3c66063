"""What torch exports of usual networks: values at every size, gradients of every weight, compiled.

Weights are compared along one random direction of all parameters: exporting the module moved both
ways along it says how far each constant of the graph moves, whatever was transposed, permuted or
folded on the way. Folding multiplies two parameters at most, so that the difference is exact.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from qtool.graph.prepare.pipeline import prepare
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.importer import TorchGraph


class Causal(nn.Module):
    """Dilated causal convolutions with batch normalization, a residual, pooling over time."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(4, 8, 3), nn.Conv1d(8, 8, 3, dilation=2, groups=2)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(functional.pad(x, (2, 0)))))
        x = x + torch.tanh(self.second(functional.pad(x, (4, 0))))
        return self.head(functional.max_pool1d(x, 2).mean(-1))


class Recurrent(nn.Module):
    """LSTM in both directions and a GRU behind it."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, bidirectional=True)
        self.gru, self.head = nn.GRU(6, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        y, _ = self.lstm(x.permute(2, 0, 1))
        _, last = self.gru(y.transpose(0, 1))
        return self.head(last[-1])


class Encoder(nn.Module):
    """Embedding, learned positions and token, attention with padding left out."""

    def __init__(self):
        super().__init__()
        self.table, self.positions = nn.Embedding(9, 8), nn.Parameter(torch.randn(1, 6, 8))
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, ids):
        x = self.table(ids) + self.positions
        x = torch.cat([self.token.expand(ids.shape[0], -1, -1), x], dim=1)
        padding = functional.pad(ids == 0, (1, 0))
        return self.head(self.layer(x, src_key_padding_mask=padding)[:, 0])


def sequence(rows, steps=6):
    return {"x": torch.randn(rows, 4, steps)}


def codes(rows):
    return {"ids": torch.randint(0, 9, (rows, 6))}


NETWORKS = {
    "causal": (Causal, sequence),
    "recurrent": (Recurrent, sequence),
    "encoder": (Encoder, codes),
}


def network(name):
    """Returns a module in eval mode without zeros, and what makes its inputs."""
    torch.manual_seed(4)
    build, inputs = NETWORKS[name]
    module = build()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3 + 0.1)
        module.train()(**inputs(16))
    return module.eval(), inputs


def prepared(module, inputs):
    torch.manual_seed(5)
    return prepare(export_onnx(module, {name: x.numpy() for name, x in inputs(2).items()}))


def moved(module, direction, distance):
    result = copy.deepcopy(module)
    with torch.no_grad():
        for parameter, along in zip(result.parameters(), direction, strict=True):
            parameter.add_(along, alpha=distance)
    return result


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_equal_those_of_the_module(name):
    module, inputs = network(name)
    graph = TorchGraph(prepared(module, inputs))
    for rows in (1, 33, 257):
        batch = inputs(rows)
        torch.testing.assert_close(graph(batch)["output"], module(**batch), rtol=1e-5, atol=2e-6)
    batch = inputs(33)
    weights = torch.randn_like(module(**batch))
    (module(**batch) * weights).sum().backward()
    (graph(batch)["output"] * weights).sum().backward()
    direction = [torch.randn_like(parameter) for parameter in module.parameters()]
    native = sum((p.grad * d).sum() for p, d in zip(module.parameters(), direction, strict=True))
    ahead, behind = (
        TorchGraph(prepared(moved(module, direction, distance), inputs)).weights().values()
        for distance in (0.5, -0.5)
    )
    # By position: the exporter numbers constants, not always alike.
    terms = [
        np.float64(parameter.grad.numpy()) * (after - before)
        for parameter, after, before in zip(graph.parameters(), ahead, behind, strict=True)
    ]
    largest = sum(np.abs(term).sum() for term in terms)
    assert abs(sum(term.sum() for term in terms) - native.item()) < 1e-5 * largest


@pytest.mark.parametrize("name", ["causal", "encoder"])
def test_the_whole_graph_is_traced(name):
    module, inputs = network(name)
    graph = TorchGraph(prepared(module, inputs))
    compiled = torch.compile(graph, fullgraph=True, dynamic=True, backend="eager")
    for rows in (3, 33):
        batch = inputs(rows)
        torch.testing.assert_close(compiled(batch)["output"], graph(batch)["output"])
