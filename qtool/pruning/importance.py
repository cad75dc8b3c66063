"""How much the loss, or what reads them, depends on the units of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qtool.graph.layers import name_of, value_at
from qtool.pruning.units import Place, Units
from qtool.torchgraph.importer import TorchGraph

Inputs = dict[str, Tensor]
Batches = Iterable[tuple[Inputs, Tensor | None]]
LossOf = Callable[[Mapping[str, Tensor], Tensor | None, Inputs], Tensor]
"""(outputs, labels, inputs) → mean loss, shape ()."""
Importance = NDArray[np.float64]
"""By number of the unit; 0 for numbers that are none."""


def taylor(graph: TorchGraph, units: Units, batches: Batches, loss: LossOf) -> Importance:
    """Returns the mean over mini-batches of (sum of w dL/dw)^2, over the weights that read a unit.

    That sum is the change of the loss, to first order, when the unit is taken away.

    Source: Molchanov et al. 2019, "Importance estimation for neural network pruning",
    arXiv 1906.10771, equation 8, for the set of the weights that read one unit.

    Args:
        graph: with trainable weights.
        units: of the same graph.
        batches: inputs and labels; small mini-batches, as their gradients do not cancel out.
        loss: mean over the rows.
    """
    found, count = np.zeros(_numbers(units)), 0
    for inputs, labels in batches:
        graph.zero_grad()
        loss(graph(inputs), labels, inputs).backward()  # type: ignore[no-untyped-call]
        sums = np.zeros_like(found)
        for reader in units.readers:
            weight = _weight(graph, reader)
            if weight.grad is not None:
                _add(sums, reader, _by_unit(weight.detach() * weight.grad, reader))
        found, count = found + sums**2, count + 1
    graph.zero_grad()
    return found / max(1, count)


def contribution(graph: TorchGraph, units: Units, batches: Batches) -> Importance:
    """Returns the mean square of what a unit adds to the layers that read it.

    Of a layer that reads x with the weights w that is mean(x^2) * |w|^2.

    Args:
        graph: any.
        units: of the same graph.
        batches: inputs; labels are not looked at.
    """
    found, count = np.zeros(_numbers(units)), 0
    names = [name_of(value_at(reader.node, 0)) for reader in units.readers]
    inner = [name for name in dict.fromkeys(names) if name not in graph.input_names]
    with torch.no_grad():
        for inputs, _ in batches:
            values = {**inputs, **graph(inputs, inner)}
            for reader, name in zip(units.readers, names, strict=True):
                x, weight = values[name], _weight(graph, reader)
                last = x.movedim(1 if reader.axis == 1 else -1, -1)  # a convolution reads axis 1
                square = last.square().reshape(-1, last.shape[-1]).mean(dim=0)
                _add(found, reader, square * _by_unit(weight.square(), reader))
            count += 1
    return found / max(1, count)


def _numbers(units: Units) -> int:
    held = [place.units for place in units.places] + list(units.layers.values())
    return 1 + max((int(each.max(initial=-1)) for each in held), default=-1)


def _weight(graph: TorchGraph, reader: Place) -> Tensor:
    weight: Tensor = getattr(graph, graph.parameter_names[name_of(value_at(reader.node, 1))])
    return weight


def _by_unit(values: Tensor, reader: Place) -> Tensor:
    """Returns the sums of what has the shape of a weight, one for each slice that reads a unit."""
    return values.movedim(reader.axis, 0).flatten(1).sum(dim=1)


def _add(sums: Importance, reader: Place, values: Tensor) -> None:
    """Adds one value for each slice to the unit that it reads."""
    np.add.at(sums, reader.units, values.double().cpu().numpy())
