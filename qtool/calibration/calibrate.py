"""Calibration: one streaming pass, mergeable statistics of every planned activation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.rows import Inputs, RowReader, row_count, rows_per_run, rows_until_cut
from qtool.calibration.watched import Watched, watched_tensors
from qtool.errors import DataError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.parameters import Range
from qtool.graph.plan import Plan
from qtool.numerics.observers import Observe
from qtool.numerics.observers import observer as observer_of
from qtool.numerics.tensor_statistics import TensorStatistics, merge, statistics_of
from qtool.progress import Progress
from qtool.runtime.sessions import Session

Statistics = dict[str, TensorStatistics]


class Forward(Protocol):
    """What computes inner values of the graph for a batch."""

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> Mapping[str, NDArray[Any]]:
        """Returns the values named in ``outputs``."""


def observe(
    model: ir.Model,
    plan: Plan,
    batches: Iterable[Inputs],
    total_rows: int,
    progress: Progress,
    *,
    masks: Mapping[str, str] | None = None,
    first_row: int = 0,
    forward: Forward | None = None,
) -> Statistics:
    """Returns the statistics of every activation that needs a range of its own.

    Only those are fetched, for few rows at a time; nothing is kept but their statistics. Neither
    the size of the batches nor the way that rows are divided among calls matters.

    Args:
        model: the prepared graph.
        plan: of that graph.
        batches: model inputs; batches without rows are passed over.
        total_rows: how many rows to show as the total.
        progress: where the pass is shown.
        masks: input → the input that is its mask, which is 0 where the other is padding.
        first_row: number of the first row, where this is one of several shards.
        forward: computes the activations; ONNX Runtime in float32 when None.

    Raises:
        DataError: there are no rows, an activation is NaN or infinite (names tensor, batch and
            row), or one has no values at all.
    """
    if not plan.calibrated:
        return {}
    # All weights are handed over as arrays: serializing them costs as much as several rows.
    graph = with_outputs(model, plan.calibrated)
    session = forward or Session(graph, "calibration", single_file_bytes=0)
    reader, row, per_run = RowReader(batches), first_row, 1
    watched: dict[str, Watched] = {}
    found: Statistics = {}
    with progress.task("calibrate", total=total_rows) as task:
        while piece := reader.take(rows_until_cut(row, per_run)):
            watched = watched or watched_tensors(model, plan, piece, masks or {})
            values = _run(session, piece, watched)
            for name, tensor in watched.items():
                found[name] = _add(found.get(name), tensor, values[name], piece, row)
                if not _is_finite(found[name]):
                    seen = row - first_row
                    raise _not_finite(session, watched, reader, piece, seen)
            # The first row runs alone and shows how much there is to observe in each.
            if row == first_row:
                per_run = rows_per_run(sum(value.nbytes for value in values.values()))
            del values  # what the runtime makes next takes their place in memory and cache
            row += row_count(piece)
            task.advance(row_count(piece))
    _check_not_empty(found)
    return found


def ranges(
    plan: Plan, statistics: Mapping[str, TensorStatistics], observer: Observe
) -> dict[str, Range]:
    """Returns the range of every activation that needs one of its own.

    Args:
        plan: its observers go before ``observer``.
        statistics: of every such activation.
        observer: of the others.
    """
    found = {}
    for name in plan.calibrated:
        own = plan.observers.get(name)
        observe = observer if own is None else observer_of(own)
        low, high = observe(statistics[name], plan.activations[name])
        found[name] = Range(low, high, statistics[name].histogram.mean_square())
    return found


def merged(a: Mapping[str, TensorStatistics], b: Mapping[str, TensorStatistics]) -> Statistics:
    """Returns the statistics of the rows of two shards."""
    return {name: merge(a[name], b[name]) for name in a}


def _run(
    session: Forward, inputs: Inputs, watched: Mapping[str, Watched]
) -> dict[str, NDArray[Any]]:
    inner = [name for name in watched if name not in inputs]
    computed = session.run(inputs, inner) if inner else {}
    return {name: computed[name] if name in computed else inputs[name] for name in watched}


def _add(
    before: TensorStatistics | None,
    tensor: Watched,
    value: NDArray[np.float32],
    inputs: Inputs,
    row: int,
) -> TensorStatistics:
    return statistics_of(
        tensor.real_values(value, inputs),
        channel_axis=tensor.channel_axis,
        columns=tensor.columns,
        first_row=row,
        before=before,
    )


def _is_finite(statistics: TensorStatistics) -> bool:
    low, high = statistics.histogram.low, statistics.histogram.high
    # Without values yet, low is +inf and high is -inf.
    return bool((low > -np.inf).all() and (high < np.inf).all())  # NaN fails both


def _not_finite(
    session: Forward,
    watched: Mapping[str, Watched],
    reader: RowReader,
    inputs: Inputs,
    rows_before: int,
) -> DataError:
    """Returns the error for the first row with a value that is not finite, found row by row."""
    for index in range(row_count(inputs)):
        one = {name: array[index : index + 1] for name, array in inputs.items()}
        for name, value in _run(session, one, watched).items():
            if not np.isfinite(watched[name].real_values(value, one)).all():
                row = rows_before + index
                return DataError(
                    f"calibration, tensor '{name}', batch {reader.batch_of(row)}, row {row}",
                    "NaN or infinity",
                    "finite activations",
                    "Check the row's input columns and the model's arithmetic on them.",
                )
    rows = f"rows {rows_before} to {rows_before + row_count(inputs) - 1}"
    return DataError(
        f"calibration, {rows}", "NaN or infinity, but in no single row", "finite activations"
    )


def _check_not_empty(found: Statistics) -> None:
    if not found:
        raise DataError(
            "calibration",
            "no rows",
            "at least one",
            "Give the calibration split a larger share in data.split, or check data.source.",
        )
    empty = [name for name, seen in found.items() if not seen.histogram.total.any()]
    if empty:
        raise DataError(
            f"calibration, tensor '{empty[0]}'",
            "no values on any row",
            "at least one that is no padding",
            "Check the mask's columns and the lengths of the sequences.",
        )
