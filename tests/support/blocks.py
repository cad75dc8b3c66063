"""Raw rows in memory, and an encoder that takes them as they are, for tests."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from qtool.data.blocks import Block
from qtool.data.encoding import Encoder
from qtool.data.tabular import CategoricalEncoding, NumericEncoding


def block_of(columns: dict[str, object]) -> Block:
    batch = pa.RecordBatch.from_pydict(columns)
    return Block("table", np.arange(batch.num_rows), batch)


def numbers_of(*columns: str, widths: tuple[int, ...] | None = None) -> NumericEncoding:
    """Returns the encoding that only fills what is missing, with 0."""
    widths = widths or (1,) * len(columns)
    zeros = np.zeros(sum(widths), np.float32)
    return NumericEncoding(columns, widths, zeros, zeros > 0, zeros, zeros + 1, None)


def encoder_of(*columns: str, **categories: tuple[int, ...] | tuple[str, ...]) -> Encoder:
    """Returns input ``x`` of numbers and, of columns with their vocabularies, input ``z``."""
    inputs = {"x": numbers_of(*columns)} if columns else {}
    if categories:
        inputs["z"] = CategoricalEncoding(tuple(categories), tuple(categories.values()))
    return Encoder(inputs)
