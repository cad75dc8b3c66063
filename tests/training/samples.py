"""A learnable scoring problem, a torch module for it, and its fake-quant graph."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torchgraph.graphs import minmax_activations, scoring_inputs, scoring_model, scoring_plan

from qtool.data.memory_map import Rows
from qtool.torchgraph.fake_quant_graph import FakeQuantGraph
from qtool.torchgraph.importer import TorchGraph


class Stopped(Exception):  # noqa: N818
    """What a test interrupts training with."""


class StopAfter:
    """A progress that interrupts after some steps."""

    def __init__(self, steps):
        self.left = steps

    @contextmanager
    def task(self, description, total=None):
        yield self

    @contextmanager
    def table(self, description, columns, total, done=0):
        yield self

    def row(self, cells, kept=False): ...

    def advance(self, amount=1, status=""):
        if not status:  # the steps of an earlier run
            return
        self.left -= 1
        if self.left == 0:
            raise Stopped


def make_rows(count, seed=1, noise=0.5):
    inputs = {name: tensor.numpy() for name, tensor in scoring_inputs(count, seed).items()}
    x, category = inputs["numeric"], inputs["category"]
    score = x[:, 0] / 50 - x[:, 1] * x[:, 2] + x[:, 3] / 6 + 0.4 * (category > 3)
    score = score + noise * np.random.default_rng(seed).standard_normal(count)
    return Rows(inputs, (score > 0).astype(np.int8))


class Scorer(nn.Module):
    """Batch normalization and dropout, which training must resume to the bit."""

    def __init__(self, outputs=1):
        super().__init__()
        self.table = nn.Embedding(6, 3)
        self.body = nn.Sequential(
            nn.BatchNorm1d(7), nn.Linear(7, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, outputs)
        )

    def forward(self, numeric, category):
        return self.body(torch.cat([numeric, self.table(category)], dim=1))


def scorer(outputs=1):
    torch.manual_seed(5)
    return Scorer(outputs)


def fitted_weights():
    """The weights of ``scoring_model`` after a short float training, made once."""
    graph, rows = TorchGraph(scoring_model()), make_rows(2000)
    inputs = {name: torch.from_numpy(array) for name, array in rows.inputs.items()}
    labels = torch.from_numpy(rows.labels.astype(np.float32))
    inputs["numeric"] = inputs["numeric"].clone()
    optimizer = torch.optim.Adam(graph.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        logits = graph(inputs)["output"][:, 0]
        nn.functional.binary_cross_entropy_with_logits(logits, labels).backward()
        optimizer.step()
    return graph.state_dict()


def fitted_pair(weights, bits=3, learn_scales=True):
    """Returns the teacher and a coarse fake-quant graph that both start from ``weights``."""
    teacher, student = TorchGraph(scoring_model(), trainable=False), TorchGraph(scoring_model())
    teacher.load_state_dict(weights)
    student.load_state_dict(weights)
    plan = scoring_plan(weight_bits=bits)
    activations = minmax_activations(student, plan, scoring_inputs(2000))
    return teacher, FakeQuantGraph(student, plan, activations, learn_scales=learn_scales)
