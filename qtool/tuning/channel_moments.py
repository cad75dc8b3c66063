"""Minimum, maximum and mean square of the channels of activations, in one streaming pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.rows import RowReader, row_count, rows_per_run
from qtool.graph.copy_outputs import with_outputs
from qtool.numerics.smoothing import Channels, Floats
from qtool.runtime.sessions import Session
from qtool.tuning.tuned import Inputs


def channel_moments(
    model: ir.Model, axes: Mapping[str, int], rows: Iterable[Inputs]
) -> dict[str, Channels]:
    """Returns the moments of some activations; padding counts like other values.

    Args:
        model: the prepared graph.
        axes: name of a float32 value → the axis of its channels.
        rows: model inputs, at least one row; they are run a few at a time.
    """
    session = Session(with_outputs(model, axes), "tuning", single_file_bytes=0)
    inner = [name for name in axes if name not in session.input_names]
    sums = {name: _Sums() for name in axes}
    reader, per_run = RowReader(rows), 1
    while piece := reader.take(per_run):
        values = {**piece, **(session.run(piece, inner) if inner else {})}
        for name, axis in axes.items():
            sums[name].add(np.moveaxis(values[name], axis, -1))
        seen = sum(values[name].nbytes for name in axes)
        per_run = rows_per_run(seen // row_count(piece))
    return {name: found.channels() for name, found in sums.items()}


class _Sums:
    """What the moments of one activation follow from."""

    def __init__(self) -> None:
        self.count = 0
        self.low: Floats | float = np.inf
        self.high: Floats | float = -np.inf
        self.square: Floats | float = 0.0

    def add(self, x: NDArray[Any]) -> None:
        """Takes float32 (..., channels)."""
        x = x.reshape(-1, x.shape[-1])
        self.count += len(x)
        self.low = np.minimum(self.low, x.min(axis=0))
        self.high = np.maximum(self.high, x.max(axis=0))
        self.square = self.square + np.einsum("nc,nc->c", x, x, dtype=np.float64)

    def channels(self) -> Channels:
        """Returns the moments."""
        low, high, square = (
            np.asarray(one, np.float64) for one in (self.low, self.high, self.square)
        )
        return Channels(low, high, square / self.count)
