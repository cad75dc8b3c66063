"""Structured pruning: a unit goes with every slice that holds it, and nothing else changes."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from support.graphs import model_of
from torch import nn

from qtool.config.pruning import Pruning
from qtool.errors import ConfigError, ModelError
from qtool.graph.model_file import constant
from qtool.graph.prepare.ownership import own
from qtool.graph.prepare.pipeline import prepare
from qtool.pruning.importance import contribution, taylor
from qtool.pruning.prune import choose, prunable, records_of, without
from qtool.pruning.units import units_of
from qtool.runtime.sessions import Session
from qtool.torchgraph.export import export_onnx
from qtool.torchgraph.importer import TorchGraph


def mlp(first, second, bias):
    """x → Gemm → Relu → Gemm → output, prepared."""
    weights = {"first.weight": first, "first.bias": bias, "second.weight": second}
    nodes = [
        helper.make_node("Gemm", ["x", "first.weight", "first.bias"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "second.weight"], ["output"], name="second"),
    ]
    x = [("x", TensorProto.FLOAT, ["batch", len(first)])]
    output = [("output", TensorProto.FLOAT, ["batch", second.shape[1]])]
    constants = {name: np.array(array, np.float32) for name, array in weights.items()}
    return prepare(model_of(nodes, x, output, constants))


FIRST = np.array([[1, 2, -3], [4, -5, 6]], np.float32)
SECOND = np.array([[1, 2], [0, 0], [3, -1]], np.float32)
HAND = (FIRST, SECOND, np.array([1, 2, 3], np.float32))
X = np.array([[1, 2], [-3, 1], [2, -2], [0, 5]], np.float32)


def mean_of(outputs, labels, inputs):
    return outputs["output"].mean()


def batches_of(x):
    return [({"x": torch.from_numpy(np.asarray(x, np.float32))}, None)]


def test_a_unit_that_nothing_reads_goes_and_the_outputs_stay_as_they_are():
    model, section = mlp(*HAND), Pruning(keep=2 / 3, multiple=1)
    units = prunable(model, section)
    importance = taylor(TorchGraph(model), units, batches_of(X), mean_of)
    chosen = choose(units, section, importance)
    pruned = without(model, units, chosen)
    np.testing.assert_array_equal(Session(pruned, "").run({"x": X})["output"], outputs_of(X))
    weights = {node.name: constant(node.inputs[1]) for node in pruned.graph if len(node.inputs) > 1}
    np.testing.assert_array_equal(weights["first"], FIRST[:, [0, 2]])
    np.testing.assert_array_equal(weights["second"], SECOND[[0, 2]])


def outputs_of(x):
    return np.maximum(x @ FIRST + HAND[2], 0) @ SECOND


def test_importance_by_hand():
    model = mlp(*HAND)
    units = units_of(model)
    hidden = np.maximum(X @ FIRST + HAND[2], 0)
    # The loss is the mean of both outputs, so dL/dw of a weight is the mean of its input / 2.
    own_units = units.layers[next(iter(units.layers))]
    changes = (hidden.mean(axis=0)[:, None] * SECOND / 2).sum(axis=1)
    found = taylor(TorchGraph(model), units, batches_of(X), mean_of)
    np.testing.assert_allclose(found[own_units], changes**2, rtol=1e-6)
    found = contribution(TorchGraph(model), units, batches_of(X))
    expected = (hidden**2).mean(axis=0) * (SECOND**2).sum(axis=1)
    np.testing.assert_allclose(found[own_units], expected, rtol=1e-6)


def test_the_first_order_is_the_change_of_the_loss_where_that_is_linear():
    model = mlp(*HAND)
    units = units_of(model)
    found = taylor(TorchGraph(model), units, batches_of(X), mean_of)
    for unit in range(3):
        chosen = np.arange(len(found)) != unit
        removed = Session(without(model, units, chosen), "").run({"x": X})["output"]
        change = outputs_of(X).mean() - removed.mean()
        assert found[unit] == pytest.approx(change**2, rel=1e-5)


class Convolutions(nn.Module):
    """Residual, depthwise, a gate of its own mean, a concatenation, a flattening."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, padding=1)
        self.norm, self.gate = nn.BatchNorm1d(8), nn.Linear(8, 8)
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.c, self.d = nn.Conv1d(16, 4, 1), nn.Linear(4 * 10, 12)
        self.layer_norm, self.e, self.f = nn.LayerNorm(12), nn.Linear(12, 16), nn.Linear(16, 2)

    def forward(self, x):
        a = torch.relu(self.a(x))
        y = self.depthwise(a + self.norm(nn.functional.gelu(self.b(a))))
        y = y * torch.sigmoid(self.gate(y.mean(2))).unsqueeze(2)
        y = torch.relu(self.c(torch.cat([y, a], 1))).flatten(1)
        return self.f(torch.tanh(self.e(self.layer_norm(self.d(y)))))


class Encoder(nn.Module):
    """One block of a Transformer encoder over steps."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        shares = torch.softmax(self.q(x) @ self.k(x).transpose(1, 2), dim=2)
        x = self.norm(x + shares @ self.v(x))
        return self.head((x + self.down(nn.functional.gelu(self.up(x)))).mean(1))


NETWORKS = {"convolutions": (Convolutions, (3, 10)), "encoder": (Encoder, (5, 8))}


@cache
def network(name):
    torch.manual_seed(3)
    module, shape = NETWORKS[name]
    x = np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)
    return prepare(export_onnx(module().eval(), {"x": x})), {"x": x}


def with_zeros(model, units, chosen):
    """The graph with zeros in place of the weights that read what goes."""
    zeroed = model.clone()
    nodes = dict(zip(model.graph, zeroed.graph, strict=True))
    for reader in units.readers:
        node = nodes[reader.node]
        weight = np.array(constant(node.inputs[1]))
        np.moveaxis(weight, reader.axis, 0)[~chosen[reader.units]] = 0
        own(zeroed.graph, node, 1, weight, node.inputs[1].name)
    return zeroed


@pytest.mark.parametrize("name", NETWORKS)
@settings(deadline=None, max_examples=5)
@given(keep=st.floats(0.05, 1), multiple=st.sampled_from([1, 2, 4]), seed=st.integers(0, 1000))
def test_the_narrower_graph_is_the_graph_without_those_units(name, keep, multiple, seed):
    model, inputs = network(name)
    section = Pruning(keep=keep, multiple=multiple)
    units = prunable(model, section)
    importance = np.random.default_rng(seed).random(1 + max(p.units.max() for p in units.places))
    chosen = choose(units, section, importance)
    pruned = without(model, units, chosen)
    expected = Session(with_zeros(model, units, chosen), "").run(inputs)
    for output, array in Session(pruned, "").run(inputs).items():
        np.testing.assert_allclose(array, expected[output], atol=2e-6)
    for record in records_of(units, chosen, section):
        full = record.after == record.before
        assert full or record.after % multiple == 0
        assert full or record.after >= keep * record.before
        assert full == bool(record.reason)


def test_what_is_coupled_and_what_cannot_go_is_said():
    model, _ = network("convolutions")
    section = Pruning(multiple=1)
    units = prunable(model, section)
    chosen = choose(units, section, np.arange(1.0 + max(p.units.max() for p in units.places)))
    records = {record.layer: record for record in records_of(units, chosen, section)}
    assert set(records["a"].coupled) == {"b", "gate"}
    assert (records["a"].before, records["a"].after) == (8, 4)
    assert "LayerNormalization" in records["d"].reason
    assert records["f"].reason == "'output' is an output of the model"


def test_of_a_transformer_only_the_inner_layer_can_be_narrower():
    model, _ = network("encoder")
    units = units_of(model)
    free = [numbers for numbers in units.layers.values() if int(numbers[0]) not in units.kept]
    assert [len(numbers) for numbers in free] == [16]


def rules(*pairs):
    return [{"match": match, "keep": keep} for match, keep in pairs]


def test_the_last_rule_holds_and_coupled_layers_take_the_largest_share():
    model, _ = network("convolutions")

    def width(layer, *pairs):
        section = Pruning(keep=0.5, multiple=1, layers=rules(*pairs))
        units = prunable(model, section)
        chosen = choose(units, section, np.zeros(1 + max(p.units.max() for p in units.places)))
        return {r.layer: r.after for r in records_of(units, chosen, section)}[layer]

    assert width("c") == 2
    assert width("c", ("c", 0.25)) == 1
    assert width("c", ("c", 0.25), ("Conv", 1.0)) == 4
    assert width("a", ("a", 0.25)) == 4
    assert width("a", ("*", 0.25)) == 2


@pytest.mark.parametrize(
    ("match", "message"),
    [("zzz*", "'zzz\\*' matches no node"), ("d", "'d' matches no layer that can be made narrower")],
)
def test_rules_that_match_nothing_are_refused(match, message):
    with pytest.raises(ConfigError, match=message):
        prunable(network("convolutions")[0], Pruning(layers=rules((match, 0.5))))


def test_a_graph_without_a_narrower_form_is_refused():
    weights = {"w": np.ones((2, 3), np.float32)}
    node = helper.make_node("Gemm", ["x", "w"], ["output"], name="only")
    shapes = [("x", TensorProto.FLOAT, ["batch", 2])], [("output", TensorProto.FLOAT, ["b", 3])]
    with pytest.raises(ModelError, match=r"only: 'output' is an output of the model"):
        prunable(prepare(model_of([node], *shapes, weights)), Pruning())


def fitted():
    """A network with more units than it needs, which weight decay has left idle, and its rows."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 6, generator=generator)
    noise = 0.5 * torch.randn(2000, generator=generator)
    y = (x[:, 0] * x[:, 1] + 0.5 * x[:, 2] + noise > 0).float()
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 1, bias=False))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03, weight_decay=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        bce(network(x), y).backward()
        optimizer.step()
    first, bias, second = (parameter.detach().numpy() for parameter in network.parameters())
    return mlp(first.T.copy(), second.T.copy(), bias), x, y


def bce(output, labels):
    return nn.functional.binary_cross_entropy_with_logits(output[:, 0], labels)


@pytest.mark.parametrize("criterion", ["taylor", "contribution"])
def test_important_units_are_those_that_the_loss_needs(criterion):
    model, x, y = fitted()
    units, section = units_of(model), Pruning(keep=0.5, multiple=1)
    graph = TorchGraph(model)
    batches = [({"x": x[i : i + 32]}, y[i : i + 32]) for i in range(0, 2000, 32)]
    if criterion == "taylor":
        found = taylor(graph, units, batches, lambda out, labels, _: bce(out["output"], labels))
    else:
        found = contribution(graph, units, batches)

    def loss(importance):
        pruned = without(model, units, choose(units, section, importance))
        return bce(TorchGraph(pruned)({"x": x})["output"], y).item()

    generator = np.random.default_rng(0)
    others = [loss(generator.random(len(found))) for _ in range(10)]
    assert loss(found) < min(others) < loss(-found)


def test_the_graph_that_is_pruned_stays_as_it_is():
    model, inputs = network("convolutions")
    before = Session(model, "").run(inputs)
    units = units_of(model)
    without(model, units, np.arange(1 + max(p.units.max() for p in units.places)) % 2 == 0)
    for name, array in Session(model, "").run(inputs).items():
        np.testing.assert_array_equal(array, before[name])
    assert isinstance(model, ir.Model)
