"""torch.compile: the planned graph is one traced graph, and a missing compiler is no error."""

from __future__ import annotations

import shutil

import pytest
import torch
from torchgraph.graphs import minmax_activations, scoring_inputs, scoring_model, scoring_plan

from qtool.torchgraph.compiled import compiled, why_not_compiled
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph

pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@pytest.fixture(autouse=True)
def probed_anew():
    why_not_compiled.cache_clear()
    yield
    why_not_compiled.cache_clear()


def fake_quant_graph():
    graph, plan, inputs = TorchGraph(scoring_model()), scoring_plan(), scoring_inputs(40)
    return FakeQuantGraph(graph, plan, minmax_activations(graph, plan, inputs)), inputs


def test_the_planned_graph_is_traced_as_a_whole_with_its_gradients():
    graph, inputs = fake_quant_graph()
    traced = torch.compile(graph, backend="aot_eager", fullgraph=True)
    found = []
    for module in (graph, traced):
        graph.zero_grad()
        output = module(inputs)["output"]
        output.square().sum().backward()
        found.append([output.detach(), *(p.grad.clone() for p in graph.parameters())])
    for eager, other in zip(*found, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-6)


def test_without_a_compiler_the_graph_is_returned_with_the_reason(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    graph, _ = fake_quant_graph()
    found, reason = compiled(graph)
    assert found is graph
    assert reason is not None
    assert "no-such-compiler" in reason


def test_a_compiler_that_fails_is_named(monkeypatch):
    monkeypatch.setenv("CXX", shutil.which("false") or "false")
    reason = why_not_compiled()
    assert reason is not None
    assert "cannot build a library" in reason


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_compiler_that_works_is_used(monkeypatch):
    monkeypatch.setenv("CXX", "g++")
    graph, _ = fake_quant_graph()
    found, reason = compiled(graph)
    assert reason is None
    assert found is not graph
    assert list(found.parameters()) == list(graph.parameters())
