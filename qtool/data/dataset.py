"""The dataset: the rows of one split as a stream of encoded or raw batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from qtool.config.data import Data
from qtool.data.batch import Batch, rechunk
from qtool.data.blocks import Block, read_blocks
from qtool.data.columns import needed_columns
from qtool.data.fitting import Fitted
from qtool.data.memory_map import Rows, write_rows
from qtool.data.source import Source
from qtool.data.split import SPLITS, SplitName, assign
from qtool.data.values import labels
from qtool.progress import Progress


@dataclass(frozen=True)
class Dataset:
    """A source with its data section and what was fitted on them."""

    source: Source
    section: Data
    fitted: Fitted

    def batches(self, split: SplitName, batch_rows: int | None = None) -> Iterator[Batch]:
        """Yields the encoded rows of a split in source order.

        Args:
            split: which split.
            batch_rows: rows per batch, the last may be shorter; ``data.batch_rows`` when None.

        Raises:
            DataError: the source has changed so that a value cannot be used.
        """
        return self._stream(split, batch_rows, self.fitted.encoder.encode)

    def raw_batches(self, split: SplitName, batch_rows: int | None = None) -> Iterator[Batch]:
        """Yields the same rows with the inputs of a graph that has the encoder inside.

        The names and types are those of ``Encoder.raw_inputs``.
        """
        return self._stream(split, batch_rows, self.fitted.encoder.raw_inputs)

    def materialize(self, split: SplitName, directory: Path, progress: Progress) -> Rows:
        """Returns the encoded rows of a split as memory-mapped arrays, written below ``directory``.

        For training, which visits rows in random order, of data larger than memory.

        Raises:
            OutputError: the files cannot be written.
        """
        rows = self.fitted.counts.rows[split]
        return write_rows(
            self.batches(split), rows, directory, f"Encoding the {split} rows", progress
        )

    def _stream(
        self,
        split: SplitName,
        batch_rows: int | None,
        encode: Callable[[Block], dict[str, NDArray[Any]]],
    ) -> Iterator[Batch]:
        return rechunk(self._pieces(split, encode), batch_rows or self.section.batch_rows)

    def _pieces(
        self, split: SplitName, encode: Callable[[Block], dict[str, NDArray[Any]]]
    ) -> Iterator[Batch]:
        wanted = SPLITS.index(split)
        for block in read_blocks(
            self.source, needed_columns(self.section), self.section.batch_rows
        ):
            chosen = block.where(assign(block, self.fitted.split) == wanted)
            if len(chosen.rows):
                yield Batch(chosen.rows, labels(chosen, self.section.label), encode(chosen))
