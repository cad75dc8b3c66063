"""Which rows are observed: a sample of fixed size, or growing samples until no range moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from qtool.calibration.calibrate import Forward, Statistics, observe
from qtool.calibration.converge import Check, sample_sizes, until_stable
from qtool.calibration.rows import Inputs
from qtool.config.data import SequenceInput
from qtool.config.quantization import Calibrated
from qtool.data.batch import Batch
from qtool.data.dataset import Dataset
from qtool.data.sampling import choose_rows
from qtool.graph.plan import Plan
from qtool.numerics.observers import observer
from qtool.numerics.tensor_statistics import BLOCK_ROWS
from qtool.progress import Progress


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows that were observed.

    Attributes:
        rows: row numbers in the source, sorted, int64 (n,).
        positives: how many of them are labelled 1; None but for binary classification with labels.
        checks: what samples of growing size changed; one check when the size was given.
    """

    rows: NDArray[np.int64]
    positives: int | None
    checks: tuple[Check, ...]


def observe_sample(
    data: Dataset,
    model: ir.Model,
    plan: Plan,
    section: Calibrated,
    seed: int,
    progress: Progress,
    forward: Forward | None = None,
) -> tuple[Statistics, Sample]:
    """Returns the statistics of the planned activations, and the rows they were seen on.

    The rows are read as a stream, no more than a batch of them is held. A larger sample contains
    the smaller one, so that each row is observed once.

    Args:
        data: its calibration split is sampled.
        model: the prepared graph.
        plan: of that graph.
        section: number of samples, share of the classes, observer.
        seed: of the sample.
        progress: where the passes are shown.
        forward: see ``observe``.

    Raises:
        DataError: as ``observe`` does.
    """
    available = data.fitted.counts.rows["calibration"]
    fixed = section.samples
    sizes = sample_sizes(available) if fixed == "auto" else [min(fixed, available)]
    stream = _Stream(data, section.minimum_class_share, seed)

    def shards() -> Iterator[tuple[int, Statistics]]:
        for size in sizes:
            first_row, batches = stream.rows_seen, stream.grow_to(size)
            seen = observe(
                model,
                plan,
                batches,
                size - first_row,
                progress,
                masks=masks_of(data),
                first_row=first_row,
                forward=forward,
            )
            yield stream.rows_seen - first_row, seen

    statistics, checks = until_stable(plan, shards(), observer(section.observer))
    binary = data.task == "binary_classification" and data.section.label is not None
    positives = stream.positives if binary else None
    return statistics, Sample(stream.rows, positives, checks)


def masks_of(data: Dataset) -> dict[str, str]:
    """Returns the mask input of every sequence input that has one."""
    parts = data.section.inputs.items()
    return {
        name: part.mask
        for name, part in parts
        if isinstance(part, SequenceInput) and part.mask is not None
    }


class _Stream:
    """Reads the rows by which each sample is larger than the one before, and counts them."""

    def __init__(self, data: Dataset, minimum_class_share: float, seed: int) -> None:
        self.data, self.share, self.seed = data, minimum_class_share, seed
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.rows_seen = self.positives = 0

    def grow_to(self, size: int) -> Iterator[Inputs]:
        """Yields the inputs of the rows that a sample of ``size`` has and this one has not."""
        everything = self.data.row_numbers("calibration")
        rows = choose_rows(everything, size, self.share, self.seed)
        new = np.setdiff1d(rows, self.rows, assume_unique=True)
        self.rows = np.union1d(self.rows, new)
        return map(self._counted, self.data.batches("calibration", BLOCK_ROWS, new))

    def _counted(self, batch: Batch) -> Inputs:
        self.rows_seen += len(batch)
        if batch.labels is not None and self.data.task == "binary_classification":
            self.positives += int(batch.labels.sum())
        return batch.inputs
