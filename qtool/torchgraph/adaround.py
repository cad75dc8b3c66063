"""AdaRound: learns for every weight of a product whether to round it up or down.

Between the two codes around a weight lies a soft one, floor(w / step) + h(a), with the rectified
sigmoid h(a) = clip(1.2 sigmoid(a) - 0.1, 0, 1). Adam lowers the error of the outputs over all a,
and a regularizer, Σ (1 - |2 h(a) - 1|^beta), drives every h to 0 or 1, gently while beta is large.

The error is the quadratic form tr(Dᵀ H D) of the difference D to the weights that are rounded: a
step costs the same however many rows H is of, and nothing is drawn, so that equal inputs give equal
codes. The error of each output is counted as a share of what rounding to nearest leaves, times K,
so that one regularizer fits outputs and layers of any scale.

Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv
2004.10568, equations 20 and 22 to 24; beta from 20 to 2 along a cosine after a fifth of the steps
without regularizer, as in the authors' AIMET.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from qtool.numerics.reconstruction import Floats, Grid

HIGH, LOW = 1.1, -0.1
"""Ends of the stretched sigmoid, ζ and γ in the paper."""  # noqa: RUF001
WITHOUT_REGULARIZER = 0.2
FIRST_BETA, LAST_BETA = 20.0, 2.0
LEARNING_RATE, REGULARIZER = 0.1, 3.0
"""The best of 0.01 to 0.1 and of 0.01 to 10 on layers of three models of real finance data."""


def adaround_codes(weight: Floats, second: Floats, grid: Grid, steps: int) -> Floats:
    """Returns codes (K, N), each of the two around the weight.

    Args:
        weight: (K, N), what is rounded.
        second: H = E[x xᵀ], (K, K).
        grid: the codes.
        steps: of the optimizer.
    """
    rounding = _Rounding(weight, second, grid)
    optimizer = torch.optim.Adam([rounding.logits], LEARNING_RATE, fused=True)
    for step in range(steps):
        rounding.set_gradient(_beta(step / steps))
        optimizer.step()
    return rounding.codes()


def _beta(progress: float) -> float | None:
    """Returns beta after a share of the steps, None as long as there is no regularizer."""
    annealed = (progress - WITHOUT_REGULARIZER) / (1 - WITHOUT_REGULARIZER)
    if annealed < 0:
        return None
    return LAST_BETA + (FIRST_BETA - LAST_BETA) * (1 + math.cos(math.pi * annealed)) / 2


class _Rounding:
    """Soft codes, float32 (K, N), with the gradient of the loss in closed form."""

    def __init__(self, weight: Floats, second: Floats, grid: Grid) -> None:
        nearest = grid.nearest(weight) * grid.step - weight
        error = (nearest * (second @ nearest)).sum(axis=0)
        share = np.divide(len(weight), error, out=np.zeros_like(error), where=error > 0)
        places = weight / grid.step
        down = grid.within(np.floor(places))
        # Beyond the last code there is nothing to choose.
        free = grid.within(down + 1) - down
        up = np.clip(places - down, 0, 1)
        self.weight, self.step, self.second, self.share, self.down, self.free, logits = (
            torch.from_numpy(np.asarray(array, np.float32))
            # Soft codes start at the weights themselves.
            for array in (weight, grid.step, second, share, down, free, (up - LOW) / (HIGH - LOW))
        )
        self.logits = torch.logit(logits)

    def set_gradient(self, beta: float | None) -> None:
        """Puts the gradient at the present logits into them."""
        sigmoid = torch.sigmoid(self.logits)
        stretched = sigmoid * (HIGH - LOW) + LOW
        up = stretched.clamp(0, 1)
        difference = (self.down + self.free * up) * self.step - self.weight
        gradient = (self.second @ difference) * (2 * self.share) * self.step
        if beta is not None:
            side = 2 * up - 1
            gradient -= REGULARIZER * 2 * beta * side.sign() * side.abs().pow(beta - 1)
        slope = (HIGH - LOW) * sigmoid * (1 - sigmoid)
        self.logits.grad = gradient * slope * self.free * (stretched == up)

    def codes(self) -> Floats:
        """Returns the codes that the logits have decided for."""
        up = (torch.sigmoid(self.logits) >= 0.5).to(torch.float32)
        return np.asarray((self.down + self.free * up).numpy(), np.float64)
