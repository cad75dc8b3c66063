"""Layer after layer in graph order: better numbers for each weight, given what the layer reads.

It reads what the quantized layers before it leave, with the numbers that these have been given
already, and should give back the outputs of the FP32 layer, as in AdaRound. Measured with GPTQ to 4
bits on six models of real finance data (benchmarks/rounding.py), output SQNR in dB:

    what the layer reads, and should give back      credit  bank  intents  TCN   CNN   LSTM
    FP32, and what it makes of that                  31.9   28.0   33.1    25.9  33.7  30.3
    quantized, and what FP32 weights make of that    32.2   28.9   33.3    25.5  33.9  30.3
    quantized, and the outputs of FP32               35.6   34.7   35.6    27.5  37.4  30.4
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from qtool.evaluation.results import Tuned
from qtool.graph.layers import Layer
from qtool.graph.parameters import Parameters
from qtool.graph.plan import Plan
from qtool.numerics.reconstruction import Floats, Grid, Reconstruction
from qtool.progress import Progress
from qtool.tuning.matching import matched_layers
from qtool.tuning.moments import Moments, moments
from qtool.tuning.products import Product, codes_of, grids_of, products_of, with_codes
from qtool.tuning.tuned import Rows

CRITERION = "mean squared error of the layer's outputs, as a share of their mean square"
NOT_BETTER = "no other numbers lower the error"
STAYS_FLOAT = "it stays in float"
NOTHING_ROUNDED = {
    "table": "a lookup adds nothing up, so that no weight can make up for another",
    "product": "it multiplies two activations and has no weight",
}
Propose = Callable[[Product, Moments, Parameters], Parameters]
"""(product, its moments, the numbers so far) → numbers with another form of its weight."""


def retuned(
    method: str,
    propose: Propose,
    model: ir.Model,
    plan: Plan,
    parameters: Parameters,
    match: str,
    rows: Rows,
    row_count: int,
    progress: Progress,
) -> tuple[Parameters, list[Tuned]]:
    """Returns numbers with every proposal that lowers the error, and one record per layer.

    The model runs once for all layers that do not read each other.

    Args:
        method: name of the tuning.
        propose: chooses other numbers for one weight.
        model: the graph of the plan, with the FP32 weights.
        plan: what is quantized, and how.
        parameters: the numbers so far.
        match: glob on the layers.
        rows: calibration rows.
        row_count: how many of them.
        progress: where it is shown.

    Raises:
        ConfigError: ``match`` matches no layer.
        DataError: there are no rows.
    """
    layers = matched_layers(model, match)
    reasons = {layer.node: _why_not(layer, plan) for layer in layers}
    products = [p for layer in layers if not reasons[layer.node] for p in products_of(layer)]
    errors = {layer.node: np.zeros(3) for layer in layers}
    with progress.task(method, total=len(products)) as task:
        for stage in stages(model, products):
            seen = moments(model, plan, parameters, stage, rows(row_count))
            for product, found in zip(stage, seen, strict=True):
                proposed = propose(product, found, parameters)
                before = _error(product, found, plan, parameters)
                after = _error(product, found, plan, proposed)
                if after < before:
                    parameters = proposed
                power = sum(float(goal.power.sum()) for goal in found.goals)
                errors[product.layer.node] += [before, min(before, after), power]
                task.advance()
    records = []
    for layer in layers:
        before, after, power = errors[layer.node].tolist()
        before, after = (before / power, after / power) if power > 0 else (0.0, 0.0)
        reason = reasons[layer.node] or ("" if after < before else NOT_BETTER)
        records.append(Tuned(method, str(layer.node.name), CRITERION, before, after, reason))
    return parameters, records


def with_better_codes(choose: Callable[[Reconstruction, Grid], Floats], plan: Plan) -> Propose:
    """Returns what proposes the codes of ``choose`` for the outputs that they are better for."""

    def propose(product: Product, seen: Moments, parameters: Parameters) -> Parameters:
        grids, codes = grids_of(product, plan, parameters), codes_of(product, plan, parameters)
        chosen = [
            goal.best(grid, before.astype(np.float64), choose(goal, grid))
            for goal, grid, before in zip(seen.goals, grids, codes, strict=True)
        ]
        return with_codes(product, plan, parameters, np.stack(chosen))

    return propose


def stages(model: ir.Model, products: Sequence[Product]) -> list[list[Product]]:
    """Returns the products in graph order, those together of which none reads what another makes.

    Args:
        model: the graph.
        products: of its layers.
    """
    depths: dict[ir.Node, int] = {}
    found: dict[int, list[Product]] = {}
    for node in model.graph:
        makers = [value.producer() for value in node.inputs if value is not None]
        depth = max((depths[maker] for maker in makers if maker in depths), default=0)
        own = [product for product in products if product.layer.node is node]
        found.setdefault(depth, []).extend(own)
        depths[node] = depth + bool(own)
    return [found[depth] for depth in sorted(found) if found[depth]]


def _why_not(layer: Layer, plan: Plan) -> str:
    """Returns why the codes of a layer's weights cannot be chosen together; empty if they can."""
    if layer.kind in NOTHING_ROUNDED:
        return NOTHING_ROUNDED[layer.kind]
    quantized = any(product.weight in plan.weights for product in products_of(layer))
    return "" if quantized else STAYS_FLOAT


def _error(product: Product, seen: Moments, plan: Plan, parameters: Parameters) -> float:
    """Returns the squared errors of all outputs with the codes that the writer gives the weight."""
    codes = codes_of(product, plan, parameters)
    grids = grids_of(product, plan, parameters)
    return sum(
        float(goal.error(code * grid.step).sum())
        for goal, grid, code in zip(seen.goals, grids, codes, strict=True)
    )
