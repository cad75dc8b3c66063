from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.config.data import HashSplit, TimeSplit
from qtool.data.blocks import Block, read_blocks
from qtool.data.split import CALIBRATION, EVALUATION, TRAINING, TimeCuts, assign, resolve_split
from qtool.errors import DataError


def assigned(source, split, columns, block_rows: int) -> list[int]:
    blocks = read_blocks(source, columns, block_rows)
    return np.concatenate([assign(block, split) for block in blocks]).tolist()


def test_hash_split_by_hand(make_block) -> None:
    # splitmix64 of 0 to 3, as a number in [0, 1): 0.8833, 0.5666, 0.5912, 0.1135.
    split = HashSplit(by="hash", key="k", calibration=0.1, evaluation=0.5)
    block = make_block({"k": [0, 1, 2, 3]})
    assert assign(block, split).tolist() == [TRAINING, CALIBRATION, CALIBRATION, EVALUATION]


@pytest.mark.parametrize("key", [None, "number", "word"])
def test_hash_split_has_the_shares_and_ignores_block_size(make_source, key: str | None) -> None:
    rows = 20_000
    numbers = np.arange(rows) * 977
    source = make_source({"number": numbers, "word": [f"k{n}" for n in numbers]}, (4096, 1000))
    split = HashSplit(by="hash", key=key)
    codes = assigned(source, split, ["number", "word"], 4096)
    assert codes == assigned(source, split, ["number", "word"], 333)
    shares = np.bincount(codes) / rows
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.015)


def test_one_key_has_one_split_whatever_its_storage(make_block) -> None:
    split = HashSplit(by="hash", key="k")
    keys = np.arange(200)
    stored = [pa.array(keys, kind) for kind in (pa.int64(), pa.int16(), pa.float64(), pa.uint64())]
    codes = {tuple(assign(make_block({"k": values}), split).tolist()) for values in stored}
    assert len(codes) == 1
    shuffled = np.random.default_rng(0).permutation(keys)
    assert tuple(assign(make_block({"k": shuffled}), split)[np.argsort(shuffled)]) in codes


def test_missing_key(make_block) -> None:
    with pytest.raises(DataError, match=r"column 'k', row 1 .*a missing value; expected a key"):
        assign(make_block({"k": ["a", ""]}), HashSplit(by="hash", key="k"))


def test_time_split_by_hand(make_source, make_block) -> None:
    days = [datetime.date(2024, 1, day) for day in (5, 1, 2, 3, 4, 6, 7, 8, 9, 10)]
    source = make_source({"t": days})
    cuts = resolve_split(source, TimeSplit(by="time", column="t", calibration=0.2, evaluation=0.3))
    assert isinstance(cuts, TimeCuts)
    block = make_block({"t": days})
    names = ["training", "calibration", "evaluation"]
    assert [names[code] for code in assign(block, cuts)] == (
        ["training"] * 5 + ["calibration"] * 2 + ["evaluation"] * 3
    )


@pytest.mark.parametrize("kind", [pa.timestamp("ns", "UTC"), pa.date64(), pa.float32(), pa.int32()])
def test_time_split_over_all_storages(make_source, kind: pa.DataType) -> None:
    days = pa.array(np.arange(100) * 86_400_000)
    values = days.cast(kind) if pa.types.is_temporal(kind) else pa.array(np.arange(100)).cast(kind)
    source = make_source({"t": values})
    cuts = resolve_split(source, TimeSplit(by="time", column="t"))
    codes = assigned(source, cuts, ["t"], 9)
    assert codes == [TRAINING] * 60 + [CALIBRATION] * 10 + [EVALUATION] * 30


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60))
def test_time_split_keeps_order_and_equal_times_together(times: list[int]) -> None:
    batch = pa.RecordBatch.from_pydict({"t": pa.array(times, pa.int64())})

    class Source:
        name, schema = "s", batch.schema

        def batches(self, columns, batch_rows):
            return iter([batch])

    section = TimeSplit(by="time", column="t", calibration=0.2, evaluation=0.3)
    cuts = resolve_split(Source(), section)
    codes = assign(Block("s", np.arange(len(times)), batch), cuts)
    by_time = codes[np.argsort(times, kind="stable")]
    assert (np.diff(by_time) >= 0).all()
    assert len(set(zip(times, codes.tolist(), strict=True))) == len(set(times))
    assert (codes == EVALUATION).sum() >= max(round(0.3 * len(times)), 1)


@pytest.mark.parametrize("values", [[1, None], [1.0, float("nan")]])
def test_missing_time(make_source, values: list[object]) -> None:
    with pytest.raises(DataError, match=r"row 1 .*expected a time in every row"):
        resolve_split(make_source({"t": values}), TimeSplit(by="time", column="t"))
