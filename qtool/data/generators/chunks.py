"""What the generators share: a random stream per chunk, batches cut from chunks, a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa


def random_stream(seed: int, number: int) -> np.random.Generator:
    """Returns a stream of its own for each seed and number (both 0 to 2**64 - 1)."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], np.uint64)))


def cut(chunk: pa.RecordBatch, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a chunk in order, at most ``batch_rows`` at a time."""
    for start in range(0, chunk.num_rows, batch_rows):
        yield chunk.slice(start, batch_rows)


def fingerprint(kind: str, version: int, rows: int, seed: int) -> str:
    """Returns the sha256 hex digest of what decides every row of a generator."""
    text = f"{kind} version={version} rows={rows} seed={seed}"
    return hashlib.sha256(text.encode()).hexdigest()
