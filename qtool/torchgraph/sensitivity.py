"""How much the outputs of a graph change when inner values do, to first order.

For a small change d of an inner value y the outputs change by J d, J = d outputs / d y. J has as
many rows as there are output numbers, so it is never made: with signs v, independent and +1 or -1
with equal chance, E[(v . J d)²] = |J d|², and v J is one backward pass for all inner values
(Hutchinson 1989, doi:10.1080/03610918908812806, with the signs of one row per output number).

This is the change of the outputs themselves, not the Fisher form with a loss of the task: it needs
no labels, is the same for every task, and can be measured (``search.analyze``) in the same unit.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from qtool.numerics.affine import Array
from qtool.torchgraph.frozen import Frozen
from qtool.torchgraph.importer import TorchGraph
from qtool.torchgraph.operators import OPERATORS

Load = Callable[[ir.Model, str], Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]]


def differentiable(model: ir.Model, load: Load) -> TorchGraph:
    """Returns the graph as a torch module; operators that torch does not have run in ``load``.

    Behind the latter gradients end.

    Args:
        model: a prepared graph.
        load: the model of one node, and its name in messages → a function of its inputs.

    Raises:
        ModelError: torch cannot run the graph.
    """
    unknown = tuple(
        glob.escape(str(node.name))
        for node in model.graph
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx")
    )
    return TorchGraph(model, frozen=Frozen(unknown, load) if unknown else None)


def projected_gradients(
    graph: TorchGraph,
    inputs: Mapping[str, NDArray[Any]],
    values: Sequence[str],
    weights: Mapping[str, float],
    generator: np.random.Generator,
) -> dict[str, Array]:
    """Returns the gradient of one random projection of the outputs, float32, by inner value.

    Values that no gradient reaches are left out.

    Args:
        graph: of ``differentiable``.
        inputs: of a batch.
        values: names of inner values.
        weights: float output → what its changes are multiplied with; other outputs do not count.
        generator: of the signs.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(inputs[name])) for name in inputs}
    found = graph(tensors, capture=values)
    terms = [
        (found[name] * _signs(found[name], generator)).sum() * weight
        for name, weight in weights.items()
    ]
    projection = torch.stack(terms).sum()
    inner = {name: found[name] for name in values if found[name].requires_grad}
    if not inner or not projection.requires_grad:
        return {}
    gradients = torch.autograd.grad(projection, list(inner.values()), allow_unused=True)
    return {
        name: gradient.numpy()
        for name, gradient in zip(inner, gradients, strict=True)
        if gradient is not None
    }


def _signs(output: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    signs = generator.integers(0, 2, tuple(output.shape)).astype(np.float32) * 2 - 1
    return torch.from_numpy(signs)
