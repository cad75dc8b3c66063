from __future__ import annotations

import dataclasses
from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qtool.numerics.tensor_statistics import (
    BLOCK_ROWS,
    BLOCKS,
    joined,
    merge,
    no_statistics,
    statistics_of,
)

tables = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-99, 99, width=32)
)


def flat(statistics):
    fields = dataclasses.asdict(statistics)
    return {**fields.pop("histogram"), **fields}


def check_same(a, b):
    for name, value in flat(a).items():
        np.testing.assert_array_equal(value, flat(b)[name], err_msg=name)


def by_rows(x, per_piece, **options):
    starts = range(0, len(x), per_piece)
    return [statistics_of(x[s : s + per_piece], first_row=s, **options) for s in starts]


def test_worked_example():
    x = np.array([[1, -4, 0], [2, 3, 0]], np.float32)
    found = statistics_of(x, channel_axis=-1, first_row=BLOCK_ROWS * 2 + 5)
    assert found.channel_peak.tolist() == [2, 4, 0]
    assert (found.block_low[0, 2], found.block_high[0, 2]) == (-4, 3)
    assert np.isinf(np.delete(found.block_low[0], 2)).all()


def test_blocks_start_over():
    x = np.array([[1.0], [2.0]], np.float32)
    first, again = (
        statistics_of(x[i : i + 1], first_row=row)
        for i, row in enumerate((3, 3 + BLOCKS * BLOCK_ROWS))
    )
    assert merge(first, again).block_high[0, 0] == 2


@given(tables, st.booleans(), st.integers(1, 7), st.randoms(use_true_random=False))
def test_pieces_in_any_order_give_the_same_bytes(x, columns, per_piece, random):
    x = np.concatenate([x] * 5)
    options = {"channel_axis": 1, "columns": columns}
    expected = reduce(merge, by_rows(x, 1, **options))
    pieces = by_rows(x, per_piece, **options)
    # A piece must lie within a block.
    if BLOCK_ROWS % per_piece:
        pieces = by_rows(x, 4, **options)
    random.shuffle(pieces)
    check_same(reduce(merge, pieces), expected)
    one_by_one = no_statistics(3 if columns else 1, 3)
    for row in range(len(x)):
        one_by_one = statistics_of(x[row : row + 1], first_row=row, before=one_by_one, **options)
    check_same(one_by_one, expected)


@given(tables)
def test_joined_columns_are_the_whole_tensor(x):
    check_same(
        joined(statistics_of(x, channel_axis=1, columns=True)), statistics_of(x, channel_axis=1)
    )


@given(
    hnp.arrays(np.float32, (2, 3, 4), elements=st.floats(-9, 9, width=32)),
    st.sampled_from([None, 0, 1, -1]),
)
def test_channels_of_any_axis(x, axis):
    peak = statistics_of(x, channel_axis=axis).channel_peak
    expected = [np.abs(x).max()]
    if axis is not None:
        expected = [np.abs(part).max() for part in np.moveaxis(x, axis, 0)]
    assert peak.tolist() == expected


def test_no_values_change_nothing():
    before = statistics_of(np.ones((2, 3), np.float32), channel_axis=1)
    check_same(statistics_of(np.zeros((0, 3), np.float32), channel_axis=1, before=before), before)
