"""What the pass looks at in each planned activation: its channels, and which values are padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.padding import Axes, axes_of, real_places
from qtool.calibration.rows import Inputs
from qtool.graph.plan import Plan
from qtool.runtime.shapes import shapes_of

PROBE_ROWS = 3
"""Rows that show the shapes of inner values: more than one, and seldom a number of heads."""


@dataclass(frozen=True)
class Watched:
    """One planned activation.

    Attributes:
        columns: whether every index of its last axis has a range of its own.
        channel_axis: the axis of its channels; None where it has none of fixed size.
        axes: what its axes are made of, where it has padding; None where all values count.
        masks: mask inputs that concern it.
    """

    columns: bool
    channel_axis: int | None
    axes: Axes | None = None
    masks: tuple[str, ...] = ()

    def real_values(self, value: NDArray[Any], inputs: Inputs) -> NDArray[Any]:
        """Returns the values that are no padding: the tensor itself, (n, channels) or (n,)."""
        if self.axes is None:
            return value
        real = real_places(self.axes, value.shape, {name: inputs[name] for name in self.masks})
        if self.channel_axis is None:
            return np.asarray(value[real])
        # All channels of a step are real or none.
        return np.asarray(value[real[..., 0]])


def watched_tensors(
    model: ir.Model, plan: Plan, inputs: Inputs, masks: Mapping[str, str]
) -> dict[str, Watched]:
    """Returns what to look at in each activation that needs a range of its own.

    Args:
        model: the prepared graph.
        plan: of that graph.
        inputs: some rows, at least one.
        masks: input → the input that is its mask.
    """
    axes = _padded_axes(model, inputs, masks) if masks else {}
    values = {str(value.name): value for value in _values(model)}
    found = {}
    for name in plan.calibrated:
        channel_axis = _channel_axis(values[name])
        own = axes.get(name)
        columns = plan.activations[name].axis == 1
        last = own is not None and {factor.label for factor in own[-1]} != {""}
        if own is None or (columns and last):
            found[name] = Watched(columns, 1 if columns else channel_axis)
            continue
        labels = {factor.label for axis in own for factor in axis}
        at_end = channel_axis is not None and channel_axis % len(own) == len(own) - 1
        found[name] = Watched(
            columns=columns,
            channel_axis=-1 if at_end and not last else None,
            axes=own,
            masks=tuple(sorted(labels & set(masks.values()))),
        )
    return found


def _padded_axes(model: ir.Model, inputs: Inputs, masks: Mapping[str, str]) -> dict[str, Axes]:
    probe = {
        name: np.resize(array, (PROBE_ROWS, *array.shape[1:])) for name, array in inputs.items()
    }
    names = [str(value.name) for value in _values(model) if str(value.name) not in probe]
    shapes = shapes_of(model, names, probe)
    shapes |= {name: tuple(array.shape) for name, array in probe.items()}
    return axes_of(model, masks, shapes)


def _values(model: ir.Model) -> list[ir.Value]:
    inner = [value for node in model.graph for value in node.outputs if value.name]
    return [*model.graph.inputs, *inner]


def _channel_axis(value: ir.Value) -> int | None:
    """Returns 1 for what a convolution reads, else the last axis; None where it has no fixed size.

    An axis whose size changes has positions, no channels.
    """
    shape = value.shape
    if shape is None or len(shape) < 2:
        return None
    axis = 1 if any(use.node.op_type == "Conv" for use in value.uses()) else len(shape) - 1
    return axis if isinstance(shape[axis], int) else None
