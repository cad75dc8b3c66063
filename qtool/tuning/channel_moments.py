"""Peak and moments of the channels of activations, in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.padding import Axes, axes_of, real_places
from qtool.calibration.rows import RowReader, row_count, rows_per_run
from qtool.graph.copy_outputs import with_outputs
from qtool.numerics.smoothing import Channels, Floats, expected_peak
from qtool.runtime.sessions import Session
from qtool.tuning.channels import Shapes
from qtool.tuning.tuned import Inputs

PIECE_ROWS = 16
"""Rows that go to the same half, at most: a few hundred rows are to fill both."""


def channel_moments(
    model: ir.Model,
    axes: Mapping[str, int],
    rows: Iterable[Inputs],
    shapes: Shapes,
    masks: Mapping[str, str],
) -> dict[str, tuple[Floats, Channels]]:
    """Returns the expected peak of the channels of some activations, and moments on other rows.

    Both are of the same rows where there is one only.

    Args:
        model: the prepared graph.
        axes: name of a float32 value → the axis of its channels.
        rows: model inputs, at least one row; they are run a few at a time.
        shapes: of all values, on some rows.
        masks: input → the input that is its mask, which is 0 where the other is padding.
    """
    session = Session(with_outputs(model, axes), "tuning", single_file_bytes=0)
    inner = [name for name in axes if name not in session.input_names]
    padded = axes_of(model, masks, shapes) if masks else {}
    halves = [{name: _Sums() for name in axes} for _ in range(2)]
    reader, per_run, pieces = RowReader(rows), 1, 0
    while piece := reader.take(per_run):
        values = {**piece, **(session.run(piece, inner) if inner else {})}
        given = {mask: piece[mask] for mask in masks.values()}
        for name, axis in axes.items():
            real = _channels_last(values[name], axis, padded.get(name), given)
            halves[pieces % 2][name].add(real)
        seen = sum(values[name].nbytes for name in axes)
        per_run, pieces = min(rows_per_run(seen // row_count(piece)), PIECE_ROWS), pieces + 1
    first, second = halves[0], halves[min(pieces, 2) - 1]
    return {name: (first[name].peak(), second[name].channels()) for name in axes}


def _channels_last(
    value: NDArray[Any], axis: int, axes: Axes | None, masks: Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """Returns float32 (n, channels) of the values that are no padding."""
    moved = np.moveaxis(value, axis, -1)
    if axes is None or any(factor.label for factor in axes[axis]):
        return moved.reshape(-1, moved.shape[-1])
    labels = {factor.label for one in axes for factor in one}
    chosen = {mask: array for mask, array in masks.items() if mask in labels}
    # All channels of a step are real or none.
    real = np.moveaxis(real_places(axes, value.shape, chosen), axis, -1)[..., 0]
    return np.asarray(moved[real])


class _Sums:
    """What the moments of one activation follow from."""

    def __init__(self) -> None:
        self.count = 0
        self.low: Floats | float = np.inf
        self.high: Floats | float = -np.inf
        self.square: Floats | float = 0.0
        self.filled: Floats | float = 0.0

    def add(self, x: NDArray[Any]) -> None:
        """Takes float32 (n, channels)."""
        self.count += len(x)
        self.low = np.minimum(self.low, x.min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, x.max(axis=0, initial=-np.inf))
        self.square = self.square + np.einsum("nc,nc->c", x, x, dtype=np.float64)
        self.filled = self.filled + np.count_nonzero(x, axis=0)

    def peak(self) -> Floats:
        """Returns the expected peak of each channel."""
        return expected_peak(self.channels(), self.count)

    def channels(self) -> Channels:
        """Returns the moments."""
        sums = (self.low, self.high, self.square, self.filled)
        low, high, square, filled = (np.asarray(one, np.float64) for one in sums)
        return Channels(low, high, square / self.count, filled / self.count)
