"""The simulated integer LSTM: its gradients against autograd through a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qtool.torchgraph.dynamic_quant import dynamic_quantize
from qtool.torchgraph.recurrent_quant import dynamic_lstm

STEPS, BATCH, INPUTS, HIDDEN = 5, 4, 3, 6


def plain_loop(direction, x, w, r, b, initial_h, initial_c):
    """The ONNX equations with autograd; rounding passes gradients straight through."""
    x = dynamic_quantize(x)
    ways = []
    for way in range(len(w)):
        order = range(STEPS)[:: -1 if direction == "reverse" or way == 1 else 1]
        h, c, hidden = initial_h[way], initial_c[way], {}
        for step in order:
            sums = x[step] @ w[way].t() + dynamic_quantize(h) @ r[way].t()
            i, o, f, g = (sums + b[way].view(2, -1).sum(0)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            hidden[step] = h
        ways.append((torch.stack([hidden[step] for step in range(STEPS)]), h, c))
    outputs, last_h, last_c = zip(*ways, strict=True)
    return torch.stack(outputs, 1), torch.stack(last_h), torch.stack(last_c)


def arguments(ways):
    random = np.random.default_rng(3)
    shapes = [
        (STEPS, BATCH, INPUTS),
        (ways, 4 * HIDDEN, INPUTS),
        (ways, 4 * HIDDEN, HIDDEN),
        (ways, 8 * HIDDEN),
        (ways, BATCH, HIDDEN),
        (ways, BATCH, HIDDEN),
    ]
    return [
        torch.tensor(random.standard_normal(shape).astype(np.float32), requires_grad=True)
        for shape in shapes
    ]


def on_floats(direction, x, w, r, *rest):
    """With weights that are not quantized."""
    return dynamic_lstm(direction, x, w, r, (None, None), *rest)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 1, 2)])
def test_values_and_gradients_are_those_of_a_plain_loop(direction, used):
    given = arguments(2 if direction == "bidirectional" else 1)
    found, expected = on_floats(direction, *given), plain_loop(direction, *given)
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)
    weights = [torch.linspace(-1, 2, expected[index].numel()) for index in used]
    totals = [
        sum((outputs[index].flatten() * w).sum() for index, w in zip(used, weights, strict=True))
        for outputs in (found, expected)
    ]
    mine, reference = (torch.autograd.grad(total, given) for total in totals)
    for one, other in zip(mine, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_without_bias_and_initial_states_they_are_zero():
    x, w, r, *rest = arguments(1)
    zeros = [torch.zeros_like(value) for value in rest]
    found, expected = dynamic_lstm("forward", x, w, r), on_floats("forward", x, w, r, *zeros)
    for mine, reference in zip(found, expected, strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_torch_can_trace_it():
    given = arguments(1)
    traced = torch.compile(on_floats, backend="aot_eager", fullgraph=True)
    for mine, reference in zip(
        traced("forward", *given), on_floats("forward", *given), strict=True
    ):
        torch.testing.assert_close(mine, reference)
