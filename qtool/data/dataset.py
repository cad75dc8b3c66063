"""The dataset: the rows of one split as a stream of encoded or raw batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.config.data import Data
from qtool.config.task import Task
from qtool.data.batch import Batch, rechunk
from qtool.data.blocks import Block, read_blocks
from qtool.data.columns import needed_columns, split_columns
from qtool.data.fitting import Fitted
from qtool.data.judging_columns import read_judging_column
from qtool.data.labels import Labels, labels_of_section
from qtool.data.list_types import block_rows
from qtool.data.memory_map import Rows, write_rows
from qtool.data.signature import Arrays
from qtool.data.source import Source
from qtool.data.split import SPLITS, SplitName, assign
from qtool.progress import Progress

Encode = Callable[[Block], Arrays]
Rows64 = NDArray[np.int64] | None


@dataclass(frozen=True)
class Dataset:
    """A source with its data section, what was fitted on them, and what the labels are."""

    source: Source
    section: Data
    fitted: Fitted
    task: Task = "binary_classification"

    @property
    def labels(self) -> Labels | None:
        """How the labels are read; None without labels."""
        return labels_of_section(self.section, self.task, self.fitted.encoder)

    def batches(
        self,
        split: SplitName,
        batch_rows: int | None = None,
        only: NDArray[np.int64] | None = None,
        columns: Sequence[str] = (),
    ) -> Iterator[Batch]:
        """Yields the encoded rows of a split in source order.

        Args:
            split: which split.
            batch_rows: rows per batch, the last may be shorter; ``data.batch_rows`` when None.
            only: row numbers, sorted, int64 (n,), to yield of these rows only the split's; all of
                its rows when None.
            columns: of the source, to read beside the inputs.

        Raises:
            DataError: the source has changed so that a value cannot be used.
        """
        return self._stream(split, batch_rows, self.fitted.encoder.encode, only, columns)

    def pieces(self, split: SplitName, encode: Encode) -> Iterator[Batch]:
        """Yields what ``encode`` makes of the rows of a split, in pieces as they are read."""
        return self._pieces(split, needed_columns(self.section), self.labels, encode)

    def row_numbers(self, split: SplitName) -> Iterator[Batch]:
        """Yields row numbers and classes of a split in source order; no inputs are read.

        Batches have no labels where the task has no classes.
        """
        labels = self.labels
        if labels is not None and not labels.are_classes:
            labels = None
        found = [*(() if labels is None else labels.columns), *split_columns(self.section)]
        # A source cannot be read without any column.
        columns = tuple(dict.fromkeys(found)) or needed_columns(self.section)[:1]
        return self._pieces(split, columns, labels, lambda block: {})

    def raw_batches(self, split: SplitName, batch_rows: int | None = None) -> Iterator[Batch]:
        """Yields the same rows with the inputs of a graph that has the encoder inside.

        The names and types are those of ``Encoder.raw_inputs``.
        """
        return self._stream(split, batch_rows, self.fitted.encoder.raw_inputs)

    def block(self, rows: NDArray[np.int64]) -> Block:
        """Returns some rows as the source holds them, with the columns of all inputs.

        Args:
            rows: row numbers, sorted, int64 (n,), at least one.
        """
        size = block_rows(self.section, self.section.batch_rows)
        found = [
            block.where(np.isin(block.rows, _between(rows, block.rows)))
            for block in read_blocks(self.source, needed_columns(self.section), size)
        ]
        return Block(
            self.source.name,
            np.concatenate([block.rows for block in found]),
            pa.concat_batches([block.columns for block in found]),
        )

    def materialize(
        self,
        split: SplitName,
        directory: Path,
        progress: Progress,
        batches: Iterator[Batch] | None = None,
    ) -> Rows:
        """Returns the encoded rows of a split as memory-mapped arrays, written below ``directory``.

        For training, which visits rows in random order, of data larger than memory.

        Args:
            split: which split.
            directory: made when it does not exist.
            progress: where it is shown.
            batches: its rows with what else training reads; None: as ``batches`` yields them.

        Raises:
            OutputError: the files cannot be written.
        """
        rows = self.fitted.counts.rows[split]
        return write_rows(
            batches or self.batches(split), rows, directory, f"Encoding the {split} rows", progress
        )

    def _stream(
        self,
        split: SplitName,
        batch_rows: int | None,
        encode: Encode,
        only: Rows64 = None,
        judging: Sequence[str] = (),
    ) -> Iterator[Batch]:
        columns = tuple(dict.fromkeys([*needed_columns(self.section), *judging]))
        pieces = self._pieces(split, columns, self.labels, encode, only, judging)
        return rechunk(pieces, batch_rows or self.section.batch_rows)

    def _pieces(
        self,
        split: SplitName,
        columns: Sequence[str],
        labels: Labels | None,
        encode: Encode,
        only: Rows64 = None,
        judging: Sequence[str] = (),
    ) -> Iterator[Batch]:
        wanted = SPLITS.index(split)
        size = block_rows(self.section, self.section.batch_rows)
        for block in read_blocks(self.source, columns, size):
            mask = assign(block, self.fitted.split) == wanted
            if only is not None:
                mask &= np.isin(block.rows, _between(only, block.rows))
            chosen = block.where(mask)
            if len(chosen.rows):
                found = None if labels is None else labels.read(chosen)
                beside = {name: read_judging_column(chosen, name) for name in judging}
                yield Batch(chosen.rows, found, encode(chosen), beside)


def _between(numbers: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns those of the sorted numbers that lie between the first and the last row."""
    first, after = np.searchsorted(numbers, [rows[0], rows[-1] + 1])
    return numbers[first:after]
