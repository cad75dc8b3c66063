"""Recurrent layers as a loop over time: every form that ONNX has and torch's kernels have not.

Source: the equations of the ONNX operators LSTM, GRU and RNN, opsets 7 to 22.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional

from qtool.torchgraph.nodes import attribute, refused

State = tuple[Tensor, ...]
"""(h,), or (h, c) of an LSTM; each (batch, hidden)."""
Activation = Callable[[Tensor], Tensor]
Cell = Callable[..., State]
"""``cell(x, state, r, bias, peepholes)``: x is the input's share of the gates, (batch, gates)."""

ACTIVATIONS: dict[str, Activation] = {
    "HardSigmoid": lambda x: torch.clamp(0.2 * x + 0.5, 0.0, 1.0),
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Tanh": torch.tanh,
}


def cell(node: ir.Node, names: Sequence[str]) -> Cell:
    """Returns one step of the node's layer with the activations ``names``.

    Raises:
        ModelError: an activation that is unknown, or has parameters.
    """
    unknown = [name for name in names if name not in ACTIVATIONS]
    if unknown or "activation_alpha" in node.attributes or "activation_beta" in node.attributes:
        found = f"activation {unknown[0]}" if unknown else "activations with parameters"
        raise refused(node, found, f"{', '.join(ACTIVATIONS)} as they are by default")
    limit = attribute(node, "clip", None)

    def clipped(function: Activation) -> Activation:
        return function if limit is None else lambda x: function(x.clamp(-limit, limit))

    functions = [clipped(ACTIVATIONS[name]) for name in names]
    if node.op_type == "LSTM":
        return partial(_lstm, functions, bool(attribute(node, "input_forget", 0)))
    if node.op_type == "GRU":
        return partial(_gru, functions, bool(attribute(node, "linear_before_reset", 0)))
    return partial(_rnn, functions)


def run_loop(
    step: Cell,
    x: Tensor,
    weights: tuple[Tensor, Tensor, Tensor],
    state: State,
    *,
    reverse: bool,
    lengths: Tensor | None,
    peepholes: Tensor | None,
) -> tuple[Tensor, State]:
    """Returns the hidden states (steps, batch, hidden) and the last state of one direction.

    Args:
        step: of the layer.
        x: (steps, batch, inputs).
        weights: W (gates, inputs), R (gates, hidden) and B (2 * gates).
        state: before the first step.
        reverse: from the end to the start.
        lengths: steps of each row, int32 (batch,); beyond them the state stays and outputs are 0.
        peepholes: (3 * hidden,) of an LSTM.
    """
    w, r, b = weights
    input_bias, bias = b.chunk(2)
    shares = functional.linear(x, w, input_bias)
    hidden = []
    for time in reversed(range(len(x))) if reverse else range(len(x)):
        new = step(shares[time], state, r, bias, peepholes)
        output = new[0]
        if lengths is not None:
            runs = (time < lengths)[:, None]
            new = tuple(torch.where(runs, a, b) for a, b in zip(new, state, strict=True))
            output = torch.where(runs, output, 0.0)
        state = new
        hidden.append(output)
    return torch.stack(hidden[::-1] if reverse else hidden), state


def _lstm(
    functions: Sequence[Activation],
    coupled: bool,
    x: Tensor,
    state: State,
    r: Tensor,
    bias: Tensor,
    peepholes: Tensor | None,
) -> State:
    gate, candidate, output = functions
    h, c = state
    i, o, f, g = (x + functional.linear(h, r, bias)).chunk(4, dim=1)
    if peepholes is not None:
        p_i, p_o, p_f = peepholes.chunk(3)
        i, f = i + p_i * c, f + p_f * c
    i = gate(i)
    f = 1 - i if coupled else gate(f)
    c = f * c + i * candidate(g)
    o = gate(o if peepholes is None else o + p_o * c)
    return o * output(c), c


def _gru(
    functions: Sequence[Activation],
    linear_before_reset: bool,
    x: Tensor,
    state: State,
    r: Tensor,
    bias: Tensor,
    _: Tensor | None,
) -> State:
    gate, candidate = functions
    (h,) = state
    hidden = h.shape[1]
    both = functional.linear(h, r[: 2 * hidden], bias[: 2 * hidden])
    update, reset = gate(x[:, : 2 * hidden] + both).chunk(2, dim=1)
    r_h, b_h = r[2 * hidden :], bias[2 * hidden :]
    if linear_before_reset:
        share = reset * functional.linear(h, r_h, b_h)
    else:
        share = functional.linear(reset * h, r_h, b_h)
    new = candidate(x[:, 2 * hidden :] + share)
    return ((1 - update) * new + update * h,)


def _rnn(
    functions: Sequence[Activation],
    x: Tensor,
    state: State,
    r: Tensor,
    bias: Tensor,
    _: Tensor | None,
) -> State:
    return (functions[0](x + functional.linear(state[0], r, bias)),)
