"""Blocks: rows of a source with their row numbers, in pieces of an exact size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from qtool.data.source import Source


@dataclass(frozen=True)
class Block:
    """Some rows as read.

    Attributes:
        source: the source's name, for messages.
        rows: row number of each row in the source, int64, counted from 0.
        columns: the values.
    """

    source: str
    rows: NDArray[np.int64]
    columns: pa.RecordBatch

    def where(self, mask: NDArray[np.bool_]) -> Block:
        """Returns the rows at which ``mask`` is true."""
        return Block(self.source, self.rows[mask], self.columns.filter(pa.array(mask)))


def read_blocks(source: Source, columns: Sequence[str], block_rows: int) -> Iterator[Block]:
    """Yields all rows in blocks of exactly ``block_rows`` rows (the last may be shorter).

    How the source cuts its batches does not show: whatever is computed block by block depends only
    on the rows and on ``block_rows``.
    """
    waiting: list[pa.RecordBatch] = []
    waiting_rows = first_row = 0
    for batch in source.batches(columns, block_rows):
        rest = batch
        while waiting_rows + rest.num_rows >= block_rows:
            taken = block_rows - waiting_rows
            yield _block(source.name, first_row, [*waiting, rest.slice(0, taken)])
            first_row += block_rows
            rest, waiting, waiting_rows = rest.slice(taken), [], 0
        if rest.num_rows:
            waiting.append(rest)
            waiting_rows += rest.num_rows
    if waiting:
        yield _block(source.name, first_row, waiting)


def _block(source: str, first_row: int, pieces: list[pa.RecordBatch]) -> Block:
    columns = pa.concat_batches(pieces)
    rows = np.arange(first_row, first_row + columns.num_rows, dtype=np.int64)
    return Block(source, rows, columns)
