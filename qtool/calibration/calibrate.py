"""Calibration: one streaming pass, one mergeable histogram per planned activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.errors import DataError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.model_file import model_bytes
from qtool.graph.parameters import Range
from qtool.graph.plan import Plan
from qtool.numerics.histogram import Histogram, merge
from qtool.numerics.observers import Observe
from qtool.progress import Progress
from qtool.runtime.sessions import Session

Inputs = Mapping[str, NDArray[Any]]


def observe(
    model: ir.Model, plan: Plan, batches: Iterable[Inputs], total_rows: int, progress: Progress
) -> dict[str, Histogram]:
    """Returns the statistics of every planned activation over ``batches``.

    Only the planned activations are fetched; nothing is kept but their histograms.

    Raises:
        DataError: an activation is NaN or infinite; names tensor, batch and row.
    """
    session = Session(model_bytes(with_outputs(model, plan.activations)), "calibration")
    histograms: dict[str, Histogram] = {}
    first_row = 0
    with progress.task("calibrate", total=total_rows) as task:
        for number, batch in enumerate(batches):
            values = {**batch, **session.run(batch)}
            rows = len(next(iter(batch.values())))
            for name, spec in plan.activations.items():
                value = values[name]
                _check_finite(name, value, number, first_row)
                seen = Histogram.of(value, columns=spec.axis == 1)
                histograms[name] = merge(histograms[name], seen) if name in histograms else seen
            first_row += rows
            task.advance(rows)
    return histograms


def ranges(plan: Plan, histograms: Mapping[str, Histogram], observer: Observe) -> dict[str, Range]:
    """Returns the range of every planned activation."""
    found = {}
    for name, spec in plan.activations.items():
        low, high = observer(histograms[name], spec)
        found[name] = Range(low, high, histograms[name].mean_square())
    return found


def _check_finite(name: str, value: NDArray[Any], batch: int, first_row: int) -> None:
    if np.isfinite(value).all():
        return
    row = int(np.argwhere(~np.isfinite(value))[0][0])
    raise DataError(
        f"calibration, tensor '{name}', batch {batch}, row {first_row + row}",
        "NaN or infinity",
        "finite activations",
        "Check the row's input columns and the model's arithmetic on them.",
    )
