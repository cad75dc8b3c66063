"""Recurrent layers: LSTM, GRU and RNN, by torch's own kernels where these compute the same.

The kernels take the weights of one direction with their gates in torch's order. They are reordered
in the graph, once per call, so that gradients reach the ONNX initializers. What the kernels do not
know (lengths, other activations, clipping, peepholes, a GRU that resets before its product) runs in
a loop over time, ``recurrent_loop``.

Source: the ONNX operator specifications, opsets 7 to 22; torch.nn.LSTM, GRU and RNN (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from qtool.torchgraph.nodes import Builder, Operator, attribute, given, refused
from qtool.torchgraph.recurrent_loop import State, cell, run_loop

GATE_ORDER = {"GRU": (1, 0, 2), "LSTM": (0, 2, 3, 1), "RNN": (0,)}
"""Where torch's gates stand in ONNX: r, z, n of z, r, h; i, f, g, o of i, o, f, c."""
DEFAULT_ACTIVATIONS = {
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "RNN": ("Tanh",),
}
KERNELS: dict[tuple[str, str], Callable[..., Any]] = {
    ("GRU", "Tanh"): torch.gru,
    ("LSTM", "Tanh"): torch.lstm,
    ("RNN", "Relu"): torch.rnn_relu,
    ("RNN", "Tanh"): torch.rnn_tanh,
}
"""By operator and last activation."""
LENGTHS, PEEPHOLES = 4, 7
"""Positions of optional inputs that torch's kernels do not take."""
INPUTS = 8
"""X, W, R, B, sequence_lens, initial_h, initial_c, P."""
Outputs = tuple[Tensor, ...]
Compute = Callable[
    [Tensor, Tensor, Tensor, Tensor | None, State, Tensor | None, Tensor | None], Outputs
]
"""``compute(x, w, r, b, state, lengths, peepholes)`` → Y, Y_h and, of an LSTM, Y_c."""


def _recurrent(node: ir.Node) -> Operator:
    if attribute(node, "layout", 0):
        raise refused(node, "layout is 1", "layout 0 (time first), as ONNX Runtime computes")
    directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
    defaults = DEFAULT_ACTIVATIONS[node.op_type] * directions
    names = tuple(attribute(node, "activations", None) or defaults)
    compute = _kernel(node, names) or _loop(node, names)

    def recurrent(*values: Tensor) -> Outputs:
        filled: list[Any] = [*values, *[None] * (INPUTS - len(values))]
        x, w, r, b, lengths, initial_h, initial_c, peepholes = filled
        zeros = x.new_zeros(directions, x.shape[1], r.shape[2])
        states = (initial_h, initial_c) if node.op_type == "LSTM" else (initial_h,)
        state = tuple(zeros if first is None else first for first in states)
        return compute(x, w, r, b, state, lengths, peepholes)[: len(node.outputs)]

    return recurrent


def _kernel(node: ir.Node, names: tuple[str, ...]) -> Compute | None:
    """Returns the node on torch's kernel, None where that computes something else."""
    operator, direction = node.op_type, attribute(node, "direction", "forward")
    kernel = KERNELS.get((operator, names[-1]))
    gates = (*DEFAULT_ACTIVATIONS[operator][:-1], names[-1])
    gates = names if operator == "RNN" and set(names) == {names[-1]} else gates
    usual = names in (gates, gates * 2) and not (
        "clip" in node.attributes
        or attribute(node, "input_forget", 0)
        or (operator == "GRU" and not attribute(node, "linear_before_reset", 0))
    )
    if kernel is None or not usual or given(node, LENGTHS) or given(node, PEEPHOLES):
        return None
    reverse, both = direction == "reverse", direction == "bidirectional"

    def compute(
        x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, state: State, *_: Tensor | None
    ) -> Outputs:
        flat = [
            _reordered(part, operator)
            for way in range(len(w))
            for part in (w[way], r[way], *(() if b is None else b[way].chunk(2)))
        ]
        x = x.flip(0) if reverse else x
        hidden = state if operator == "LSTM" else state[0]
        # Training mode: without it the kernel keeps nothing for the gradient. There is no dropout.
        y, *last = kernel(x, hidden, flat, b is not None, 1, 0.0, True, both, False)
        y = y.flip(0) if reverse else y
        return y.unflatten(2, (len(w), -1)).transpose(1, 2), *last

    return compute


def _reordered(weight: Tensor, operator: str) -> Tensor:
    gates = weight.chunk(len(GATE_ORDER[operator]))
    return torch.cat([gates[index] for index in GATE_ORDER[operator]])


def _loop(node: ir.Node, names: tuple[str, ...]) -> Compute:
    direction = attribute(node, "direction", "forward")
    count = len(DEFAULT_ACTIVATIONS[node.op_type])
    steps = [cell(node, names[at : at + count]) for at in range(0, len(names), count)]

    def compute(
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None,
        state: State,
        lengths: Tensor | None,
        peepholes: Tensor | None,
    ) -> Outputs:
        b = x.new_zeros(len(w), 2 * w.shape[1]) if b is None else b
        ways = [
            run_loop(
                step,
                x,
                (w[way], r[way], b[way]),
                tuple(part[way] for part in state),
                reverse=direction == "reverse" or way == 1,
                lengths=lengths,
                peepholes=None if peepholes is None else peepholes[way],
            )
            for way, step in enumerate(steps)
        ]
        last = zip(*(final for _, final in ways), strict=True)
        return torch.stack([y for y, _ in ways], dim=1), *(torch.stack(parts) for parts in last)

    return compute


RECURRENT: dict[str, Builder] = {"GRU": _recurrent, "LSTM": _recurrent, "RNN": _recurrent}
