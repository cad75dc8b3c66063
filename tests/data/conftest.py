from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from qtool.config.data import Data
from qtool.data.blocks import Block


@dataclass(frozen=True)
class TableSource:
    """A table that comes in batches of changing, odd sizes."""

    table: pa.Table
    sizes: tuple[int, ...] = (3, 1, 7)
    name: str = "table"

    @property
    def schema(self) -> pa.Schema:
        return self.table.schema

    def fingerprint(self) -> str:
        return "0" * 64

    def batches(self, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        start = turn = 0
        while start < self.table.num_rows:
            size = min(self.sizes[turn % len(self.sizes)], batch_rows)
            yield (
                self.table.select(list(columns)).slice(start, size).combine_chunks().to_batches()[0]
            )
            start, turn = start + size, turn + 1


@pytest.fixture
def make_source() -> Callable[..., TableSource]:
    def make(columns: dict[str, object], sizes: tuple[int, ...] = (3, 1, 7)) -> TableSource:
        return TableSource(pa.table(columns), sizes)

    return make


@pytest.fixture
def make_block() -> Callable[..., Block]:
    def make(columns: dict[str, object], first_row: int = 0) -> Block:
        batch = pa.RecordBatch.from_pydict(columns)
        return Block("table", np.arange(first_row, first_row + batch.num_rows), batch)

    return make


@pytest.fixture
def make_data() -> Callable[..., Data]:
    def make(inputs: dict[str, object], **rest: object) -> Data:
        return Data.model_validate({"source": "unused", "label": "y", "inputs": inputs, **rest})

    return make


@pytest.fixture
def credit() -> pa.Table:
    """2,000 applications: numbers with gaps, codes, words, a key, a time and a label."""
    random = np.random.default_rng(0)
    rows = 2_000
    income = np.exp(random.normal(8, 1, rows))
    return pa.table(
        {
            "key": pa.array(np.arange(rows) // 2),
            "time": pa.array(1_700_000_000 + np.arange(rows) * 60).cast(pa.timestamp("s")),
            "income": pa.array(income, mask=random.random(rows) < 0.1),
            "balance": random.normal(-50, 500, rows),
            "mcc": pa.array(random.choice([5411, 5812, 4829], rows)),
            "country": pa.array(random.choice(["DE", "FR", "NA", None], rows).tolist()),
            "y": pa.array(random.random(rows) < 0.2),
        }
    )


@pytest.fixture
def credit_inputs() -> dict[str, object]:
    return {
        "numbers": {
            "columns": ["income", "balance"],
            "scale": "standard",
            "log": ["income"],
            "missing": "mean",
            "clip": 4.0,
        },
        "codes": {"kind": "categorical", "columns": ["mcc", "country"]},
    }
