"""The integer LSTM of ONNX Runtime, simulated: com.microsoft.DynamicQuantizeLSTM.

The kernel (ONNX Runtime 1.31) computes each direction in two products. The input is quantized once,
the whole sequence with one uint8 range; the hidden state is quantized before every step with a
range over the batch. Products are exact integers, as in ``integer_products``; gates, cell state and
outputs are float32. Without gradients sigmoid and tanh are those of the kernel too, and the outputs
are its to the bit; training takes torch's, which differ in the last bit and are several times as
fast. With more than one thread the runtime may split the batch and take ranges of the parts: parity
holds for one thread.

The time loop is one torch operator with its own gradient, so that torch.compile sees one node, and
the gradients of the weights are one product each instead of one per step.

Source: the equations of ONNX operator LSTM (gates in the order i, o, f, c); Hochreiter and
Schmidhuber 1997 for the gradient through time; straight-through where h is rounded.
"""

from __future__ import annotations

from typing import Any, Literal

import onnx_ir as ir
import torch
from torch import Tensor

from qtool.torchgraph import mlas
from qtool.torchgraph.dynamic_quant import uint8_codes, with_scale
from qtool.torchgraph.nodes import Operator, attribute, chosen_outputs, given, refused

Direction = Literal["forward", "reverse", "bidirectional"]
LENGTHS = 4
"""Position of the input sequence_lens."""
GATES = 4
CELL = 3
"""Position of the one gate with a tanh."""
SIGMOID_BACKWARD = torch.ops.aten.sigmoid_backward.default
TANH_BACKWARD = torch.ops.aten.tanh_backward.default


def integer_lstm(node: ir.Node) -> Operator:
    """Returns what the integer kernel makes of the scales of W and R and the inputs of an LSTM.

    Raises:
        ModelError: the node has sequence lengths, of which no simulation is known.
    """
    if given(node, LENGTHS):
        action = "Give the layer a rule in quantization.layers: storage or float."
        raise refused(node, "a dynamic LSTM with sequence_lens", "one without", action)
    direction: Direction = attribute(node, "direction", "forward")
    count = len(node.outputs)

    def compute(
        w_scale: Tensor | None,
        r_scale: Tensor | None,
        x: Tensor,
        w: Tensor,
        r: Tensor,
        b: Tensor | None = None,
        lengths: None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
        *peepholes: None,
    ) -> tuple[Tensor, ...]:
        scales = w_scale, r_scale
        return dynamic_lstm(direction, x, w, r, scales, b, initial_h, initial_c)[:count]

    return chosen_outputs(node, compute)


def dynamic_lstm(
    direction: Direction,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    scales: tuple[Tensor | None, Tensor | None] = (None, None),
    b: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns Y (steps, directions, batch, hidden), and Y_h, Y_c (directions, batch, hidden).

    Args:
        direction: as the ONNX attribute.
        x: float32 (steps, batch, inputs), not yet quantized.
        w: fake-quantized weights (directions, 4 * hidden, inputs).
        r: fake-quantized recurrent weights (directions, 4 * hidden, hidden).
        scales: of ``w`` and ``r``, one for each direction; None where they are not quantized.
        b: biases (directions, 8 * hidden).
        initial_h: (directions, batch, hidden); zeros when left out.
        initial_c: the same.
    """
    x, x_scale = with_scale(x)
    w_scale, r_scale = (x.new_ones(len(w)) if s is None else s.detach().flatten() for s in scales)
    exact = not torch.is_grad_enabled()
    ways = []
    for way in range(len(w)):
        backwards = direction == "reverse" or way == 1
        zeros = x.new_zeros(x.shape[1], r.shape[2])
        bias = x.new_zeros(r.shape[1]) if b is None else b[way].view(2, -1).sum(0)
        first_h = zeros if initial_h is None else initial_h[way]
        first_c = zeros if initial_c is None else initial_c[way]
        seen = x.flip(0) if backwards else x
        steps = torch.stack([x_scale, w_scale[way], r_scale[way]])
        hidden, last_c, *_ = one_direction(
            seen, w[way], r[way], bias, first_h, first_c, steps, exact
        )
        ways.append((hidden.flip(0) if backwards else hidden, hidden[-1], last_c))
    outputs, last_h, last_c = zip(*ways, strict=True)
    return torch.stack(outputs, 1), torch.stack(last_h), torch.stack(last_c)


@torch.library.custom_op("qtool::dynamic_lstm", mutates_args=())
def one_direction(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor,
    h: Tensor,
    c: Tensor,
    scales: Tensor,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns h of every step and the last c, and what the gradient needs.

    Args:
        x: (steps, batch, inputs), quantized.
        w: (4 * hidden, inputs).
        r: (4 * hidden, hidden).
        bias: (4 * hidden,), that of the input plus that of the hidden state.
        h: (batch, hidden), before the first step.
        c: the same.
        scales: (3,), of ``x``, ``w`` and ``r``.
        exact: sigmoid and tanh of the kernel.

    Returns:
        h of every step (steps, batch, hidden); the last c; then of every step the gates, the
        rounded h that they saw, c before the step and tanh(c) after it.
    """
    steps, batch, size = len(x), *h.shape
    x_scale, w_scale, r_scale = scales
    x_codes, w_codes, r_codes = (
        torch.round(values / scale) if scale != 1 else values
        for values, scale in ((x, x_scale), (w, w_scale), (r, r_scale))
    )
    gates = (x_codes.reshape(steps * batch, -1) @ w_codes.t()).mul_(x_scale * w_scale)
    gates = gates.view(steps, batch, -1)
    hidden, rounded, cells, squashed = (h.new_empty(steps, batch, size) for _ in range(4))
    transposed = r_codes.t()
    for step in range(steps):
        codes, h_scale = uint8_codes(h)
        now = gates[step]
        # Each operation is rounded by itself, in this order, as in the kernel.
        now.add_((codes @ transposed).mul_(h_scale * r_scale)).add_(bias)
        torch.mul(codes, h_scale, out=rounded[step])
        squashes, squash = now[:, : CELL * size], now[:, CELL * size :]
        squashes.copy_(mlas.sigmoid(squashes)) if exact else squashes.sigmoid_()
        squash.copy_(mlas.tanh(squash)) if exact else squash.tanh_()
        i, o, f, g = now.chunk(GATES, dim=1)
        cells[step] = c
        c = (f * c).add_(i * g)
        squashed[step] = mlas.tanh(c) if exact else torch.tanh(c)
        h = torch.mul(o, squashed[step], out=hidden[step])
    return hidden, c, gates, rounded, cells, squashed


@torch.library.custom_op("qtool::dynamic_lstm_backward", mutates_args=())
def direction_gradients(
    hidden_grad: Tensor,
    c_grad: Tensor,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    gates: Tensor,
    rounded: Tensor,
    cells: Tensor,
    squashed: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of the six arguments of ``one_direction``.

    The products of each step are added up at once: a buffer with the gradients of all gates would
    cost more than it saves.

    Args:
        hidden_grad: of h of every step.
        c_grad: of the last c.
        x: as ``one_direction`` takes it.
        w: the same.
        r: the same.
        gates: as ``one_direction`` returns them.
        rounded: the same.
        cells: the same.
        squashed: the same.
    """
    x_grad, w_grad, r_grad = torch.empty_like(x), torch.zeros_like(w), torch.zeros_like(r)
    bias_grad, h_grad = w.new_zeros(len(w)), torch.zeros_like(c_grad)
    for step in reversed(range(len(gates))):
        i, o, f, g = gates[step].chunk(GATES, dim=1)
        after = squashed[step]
        h_grad = h_grad + hidden_grad[step]
        c_grad = c_grad + TANH_BACKWARD(h_grad * o, after)
        squeezed = torch.cat([c_grad * g, h_grad * after, c_grad * cells[step]], dim=1)
        squeezed = SIGMOID_BACKWARD(squeezed, gates[step][:, : CELL * h_grad.shape[1]])
        sums = torch.cat([squeezed, TANH_BACKWARD(c_grad * i, g)], dim=1)
        torch.mm(sums, w, out=x_grad[step])
        w_grad.addmm_(sums.t(), x[step])
        r_grad.addmm_(sums.t(), rounded[step])
        bias_grad += sums.sum(0)
        h_grad, c_grad = sums @ r, c_grad * f
    return x_grad, w_grad, r_grad, bias_grad, h_grad, c_grad


@one_direction.register_fake
def _(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor,
    h: Tensor,
    c: Tensor,
    scales: Tensor,
    exact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    hidden, rounded, cells, squashed = (h.new_empty(len(x), *h.shape) for _ in range(4))
    gates = x.new_empty(*x.shape[:2], len(w))
    return hidden, torch.empty_like(c), gates, rounded, cells, squashed


@direction_gradients.register_fake
def _(
    hidden_grad: Tensor,
    c_grad: Tensor,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    gates: Tensor,
    rounded: Tensor,
    cells: Tensor,
    squashed: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    x_grad, w_grad, r_grad = torch.empty_like(x), torch.empty_like(w), torch.empty_like(r)
    h_grad, first_c_grad = torch.empty_like(c_grad), torch.empty_like(c_grad)
    return x_grad, w_grad, r_grad, w.new_empty(len(w)), h_grad, first_c_grad


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, w, r, *_ = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, w, r, *output[2:])


def _backward(
    ctx: Any, hidden_grad: Tensor | None, c_grad: Tensor | None, *unused: None
) -> tuple[Tensor | None, ...]:
    *_, cells, _ = saved = ctx.saved_tensors
    hidden_grad = torch.zeros_like(cells) if hidden_grad is None else hidden_grad
    c_grad = torch.zeros_like(cells[0]) if c_grad is None else c_grad
    gradients = direction_gradients(hidden_grad, c_grad, *saved)
    return (*gradients, None, None)


one_direction.register_autograd(_backward, setup_context=_save)
