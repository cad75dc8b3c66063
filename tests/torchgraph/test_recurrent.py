"""Recurrent layers against ONNX Runtime: every form, every length; gradients of both ways."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torchgraph.operator_cases import Case, check, model_of

from qtool.torchgraph.importer import TorchGraph

GENERATOR = np.random.default_rng(5)
STEPS, BATCH, INPUTS, HIDDEN = 6, 3, 4, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
OUTPUTS = {"LSTM": 3, "GRU": 2, "RNN": 2}
X = GENERATOR.standard_normal((STEPS, BATCH, INPUTS)).astype(np.float32)
LENGTHS = np.array([6, 2, 4], np.int32)


def _case(op, test="", directions=1, bias=True, lengths=None, states=False, peep=False, **more):
    def values(*shape):
        return (GENERATOR.standard_normal(shape) * 0.5).astype(np.float32)

    rows = GATES[op] * HIDDEN
    b = values(directions, 2 * rows) if bias else None
    first = [values(directions, BATCH, HIDDEN) if states else None] * (2 if op == "LSTM" else 1)
    peepholes = [values(directions, 3 * HIDDEN)] if peep else []
    weights = (values(directions, rows, INPUTS), values(directions, rows, HIDDEN))
    attributes = {"hidden_size": HIDDEN, **more.pop("attributes", {})}
    if directions == 2:
        attributes["direction"] = "bidirectional"
    constants = (*weights, b, lengths, *first, *peepholes)
    outputs = more.pop("outputs", OUTPUTS[op])
    return Case(op, (X,), constants, attributes, outputs=outputs, test=f" {test}", **more)


AFTER = {"linear_before_reset": 1}
CASES = [
    *(_case(op) for op in GATES),
    *(_case(op, "both", 2, states=True) for op in GATES),
    *(_case(op, "no bias", bias=False) for op in GATES),
    *(_case(op, "reverse", attributes={"direction": "reverse"}) for op in GATES),
    *(_case(op, "lengths", 2, lengths=LENGTHS, states=True) for op in GATES),
    *(
        _case(op, "lengths back", lengths=LENGTHS, attributes={"direction": "reverse"})
        for op in GATES
    ),
    _case("GRU", "after", attributes=AFTER),
    _case("GRU", "after, both", 2, states=True, attributes=AFTER),
    _case("GRU", "after, reverse", attributes={"direction": "reverse", **AFTER}),
    _case("GRU", "after, lengths", lengths=LENGTHS, attributes=AFTER),
    _case("RNN", "Relu", attributes={"activations": ["Relu"]}),
    _case("RNN", "both kinds", 2, attributes={"activations": ["Relu", "Tanh"]}),
    _case("GRU", "Relu", attributes={"activations": ["Sigmoid", "Relu"]}),
    _case("LSTM", "peepholes", 2, peep=True),
    _case("LSTM", "clip", attributes={"clip": 0.4}),
    _case("LSTM", "coupled", attributes={"input_forget": 1}),
    _case("LSTM", "activations", attributes={"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    _case("LSTM", "last only", outputs=3, absent=(0,)),
    _case("LSTM", "cell only", outputs=3, absent=(0, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_onnx_runtime(case):
    check(case)


@pytest.mark.parametrize("op", GATES)
def test_one_graph_runs_every_batch_and_length(op):
    proto, _ = model_of(_case(op, "any size", 2, attributes=AFTER if op == "GRU" else {}))
    session, graph = (
        onnxruntime.InferenceSession(proto.SerializeToString()),
        TorchGraph(ir.from_proto(proto)),
    )
    for steps, rows in [(1, 33), (17, 1), (3, 257)]:
        x = GENERATOR.standard_normal((steps, rows, INPUTS)).astype(np.float32)
        found = graph({"x0": torch.from_numpy(x)})
        for name, expected in zip(found, session.run(None, {"x0": x}), strict=True):
            np.testing.assert_allclose(found[name].detach(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["LSTM", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_kernel_and_the_loop_have_the_same_gradients(op, direction):
    case = _case(op, attributes={"direction": direction})
    # Full lengths change nothing but the way it is computed.
    constants = (*case.constants[:3], np.full(BATCH, STEPS, np.int32), *case.constants[4:])
    gradients = []
    for same in (case, dataclasses.replace(case, constants=constants)):
        proto, _ = model_of(same)
        graph = TorchGraph(ir.from_proto(proto))
        outputs = graph({"x0": torch.from_numpy(X)}).values()
        sum(y.square().sum() for y in outputs).backward()
        gradients.append([parameter.grad for parameter in graph.parameters()])
    assert len(gradients[0]) == len(case.constants[:3])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)
