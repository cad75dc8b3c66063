"""What treatments of single layers do to the outputs: predicted from gradients, and measured.

Both are the mean squared change of the outputs as a share of their variance over the rows, the mean
over all float outputs. The variance is that around the mean of every index of the last axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.errors import ModelError
from qtool.graph.copy_outputs import with_outputs
from qtool.graph.model_file import outputs_of
from qtool.progress import Task
from qtool.runtime.sessions import Session
from qtool.search.regions import Region

Arrays = Mapping[str, NDArray[Any]]
Gradients = Callable[[Arrays, Sequence[str], Mapping[str, float]], Mapping[str, NDArray[Any]]]
"""(inputs, inner values, weights of the outputs) → gradients of one random projection."""

PROBES = 4
"""Random projections per batch: of 256 rows of one output they leave a standard deviation of 4 %
of the error, of many outputs whose changes a few rows dominate up to 15 % (measured)."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The FP32 model on the rows that errors are of.

    Attributes:
        model: the prepared graph.
        batches: its inputs.
        outputs: float outputs of each batch.
    """

    model: ir.Model
    batches: tuple[Arrays, ...]
    outputs: tuple[Arrays, ...]

    @staticmethod
    def of(model: ir.Model, batches: Sequence[Arrays]) -> Reference:
        """Runs the model.

        Raises:
            ModelError: no output is float, or none changes from row to row.
        """
        floats = [o.name for o in outputs_of(model) if o.dtype.startswith("float")]
        session = Session(model, "the prepared FP32 model")
        outputs = tuple(session.run(batch, floats) for batch in batches) if floats else ()
        found = Reference(model, tuple(batches), outputs)
        if not floats or not found.weights:
            raise ModelError(
                "the FP32 model",
                "no float output that differs from row to row on the calibration rows",
                "an output that depends on the inputs",
                "Check the model and data.inputs.",
            )
        return found

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(len(next(iter(batch.values()))) for batch in self.batches)

    @cached_property
    def weights(self) -> dict[str, float]:
        """Factor of every output that varies: its squared changes then add up to the error."""
        spread = {name: self._squares(name) for name in self.outputs[0]} if self.outputs else {}
        varying = {name: found for name, found in spread.items() if found > 0}
        return {name: 1 / np.sqrt(found * len(varying)) for name, found in varying.items()}

    def _squares(self, name: str) -> float:
        """Returns the sum of squares around the means of an output."""
        found = [batch[name].astype(np.float64) for batch in self.outputs]
        lengths = {array.shape[-1] for array in found if array.ndim > 1}
        width = lengths.pop() if len(lengths) == 1 else 1
        table = np.concatenate([array.reshape(-1, width) for array in found])
        return float(((table - table.mean(axis=0)) ** 2).sum())

    def measured(self, int8: ir.Model, where: str) -> float:
        """Returns the error of a treated model.

        Raises:
            ModelError: the runtime refuses it.
        """
        session, total = Session(int8, where), 0.0
        for batch, expected in zip(self.batches, self.outputs, strict=True):
            found = session.run(batch, list(self.weights))
            for name, weight in self.weights.items():
                change = (found[name].astype(np.float64) - expected[name]) * weight
                total += float((change**2).sum())
        return total


@dataclass(eq=False)
class Prediction:
    """The predicted error of one region, added up over the batches; NaN without a gradient."""

    region: Region
    error: float = np.nan

    def add(
        self,
        values: Arrays,
        probes: Sequence[Mapping[str, NDArray[Any]]],
        row_axes: Mapping[str, int | None],
    ) -> None:
        """Takes a batch.

        Args:
            values: FP32 values of what the region reads and leaves.
            probes: gradients of each projection by value.
            row_axes: value → the axis of its rows; None where rows are folded into another one.
        """
        known = [name for name in self.region.outputs if any(name in probe for probe in probes)]
        if not known:
            return
        found = self.region.run(values)
        changes = {name: found[name].astype(np.float64) - values[name] for name in known}
        self.error = 0.0 if np.isnan(self.error) else self.error
        # The signs of rows are independent: without a row axis the square of the sum over all rows
        # has the same mean as the sum of the squares.
        by_row = all(row_axes[name] is not None for name in known)
        for probe in probes:
            products = [
                _by_row(probe[name] * changes[name], row_axes[name] if by_row else None)
                for name in known
                if name in probe
            ]
            self.error += float(np.square(sum(products)).sum()) / len(probes)


def _by_row(product: NDArray[Any], axis: int | None) -> NDArray[np.float64]:
    """Returns the sum of every row, (rows,), or that of all of them, (1,)."""
    moved = product[None] if axis is None else np.moveaxis(product, axis, 0)
    return np.asarray(moved.reshape(len(moved), -1).sum(axis=1))


def predict(
    reference: Reference, predictions: Iterable[Prediction], gradients: Gradients, task: Task
) -> None:
    """Adds up every prediction over all rows.

    Args:
        reference: FP32 on the rows.
        predictions: of single layers.
        gradients: of the outputs.
        task: where batches are counted.
    """
    every = list(predictions)
    names = list(dict.fromkeys(n for p in every for n in (*p.region.inputs, *p.region.outputs)))
    left = list(dict.fromkeys(n for p in every for n in p.region.outputs))
    session = Session(with_outputs(reference.model, names), "the prepared FP32 model")
    axes = _row_axes(session, reference.batches[0], left)
    inner = [name for name in names if name not in session.input_names]
    for batch in reference.batches:
        probes = [gradients(batch, left, reference.weights) for _ in range(PROBES)]
        values = {**batch, **session.run(batch, inner)}
        for prediction in every:
            prediction.add(values, probes, axes)
        task.advance(len(next(iter(batch.values()))))


def _row_axes(session: Session, batch: Arrays, names: Sequence[str]) -> dict[str, int | None]:
    """Returns the axis that has one index per row, by what two numbers of rows change."""
    shapes = []
    for rows in (2, 3):
        few = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in batch.items()}
        shapes.append({name: array.shape for name, array in session.run(few, names).items()})
    found: dict[str, int | None] = {}
    for name in names:
        both = enumerate(zip(shapes[0][name], shapes[1][name], strict=True))
        changing = [(axis, sizes) for axis, sizes in both if sizes[0] != sizes[1]]
        clean = len(changing) == 1 and changing[0][1] == (2, 3)
        found[name] = changing[0][0] if clean else None
    return found
