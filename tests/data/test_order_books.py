from __future__ import annotations

from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.order_books import (
    AHEAD,
    BURN_IN_MS,
    FLAT_BPS,
    LEVELS,
    PAST,
    SCHEMA,
    START_MS,
    STRIDE,
    OrderBooks,
    Side,
    order_flow,
    snapshots,
    window_batches,
)
from qtool.data.source import open_source


def table(source: OrderBooks, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def recorded():
    found = islice(snapshots(order_flow(7), START_MS + BURN_IN_MS), 15_000)
    return np.array([book for _, book in found])


def test_a_config_opens_it():
    source = open_source(GeneratorSource(generator="order_books", rows=10, seed=3))
    assert source == OrderBooks(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=4, deadline=None)
@given(batch_rows=st.integers(50, 500), rows=st.integers(1, 600))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = OrderBooks(rows, seed=7)
    batches = list(source.batches(["time", "direction"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["time", "direction"]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [OrderBooks(10, 7), OrderBooks(11, 7), OrderBooks(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def full_book(levels=LEVELS):
    """Asks from 1001 up and bids from 999 down, of 1, 2, 3, … units."""
    for level in range(1, levels + 1):
        yield 0, False, 1000 + level, float(level)
        yield 0, True, 1000 - level, float(level)


def test_a_side_keeps_its_prices_in_order():
    side = Side()
    for key, volume in ((5, 1.0), (3, 2.0), (9, 3.0), (3, 4.0), (5, 0.0), (7, 0.0)):
        side.put(key, volume)
    assert side.keys == [3, 9]
    assert side.volumes == {3: 4.0, 9: 3.0}


def test_only_visible_changes_of_a_book_that_is_not_crossed_are_steps():
    updates = [
        *full_book(),
        (1, False, 1011, 5.0),  # an eleventh level
        (2, False, 1003, 3.0),  # the volume that it has
        (3, True, 1000, 2.5),  # a better bid
        (4, True, 1001, 1.0),  # as high as the best ask
        (5, True, 1001, 0.0),
        (6, False, 1001, 0.0),  # the best ask goes, the eleventh comes into sight
    ]
    found = list(snapshots(updates, 0))
    assert [time for time, _ in found] == [0, 3, 6]
    assert found[0][1][0].tolist() == [1001, 1, 999, 1]
    assert found[1][1][0].tolist() == [1001, 1, 1000, 2.5]
    assert found[2][1][[0, -1]].tolist() == [[1002, 2, 1000, 2.5], [1011, 5, 991, 9]]
    assert [time for time, _ in snapshots(updates, 4)] == [5, 6]


def test_windows_and_labels_of_a_book_that_falls_then_rises():
    # The best bids go one by one and come back: half a tick of the mid-price each.
    gone = [(step, True, 1000 - step, 0.0) for step in range(1, PAST + 60)]
    back = [(1000 - step, True, 1000 - step, 1.0) for step in range(PAST + 59, 0, -1)]
    updates = [*full_book(300), *gone, *back]
    # The first ten levels of both sides show while the book is filled.
    (batch,) = window_batches(updates, start_ms=1)
    rows = batch.to_pylist()
    mids = [(book[0, 0] + book[0, 2]) / 2 for _, book in snapshots(updates, 1)]
    for number, row in enumerate(rows):
        last = PAST - 1 + STRIDE * number
        now = mids[last]
        move = 1e4 * (np.mean(mids[last + 1 : last + 1 + AHEAD]) / now - 1)
        assert row["direction"] == (0 if move < -FLAT_BPS else 2 if move > FLAT_BPS else 1)
        assert row["next_bps"] == pytest.approx(1e4 * (mids[last + STRIDE] / now - 1), rel=1e-5)
        assert len(row["book"]) == PAST
        ask, _, bid, _ = row["book"][-1][:4]
        assert row["spread"] == pytest.approx(ask - bid, rel=1e-4)
        assert ask == pytest.approx(-bid, rel=1e-4)  # of the window's own mid-price
        first_mid = (row["book"][0][0] + row["book"][0][2]) / 2
        assert first_mid == pytest.approx(1e4 * (mids[last - PAST + 1] / now - 1), abs=1e-2)
    assert {row["direction"] for row in rows} >= {0, 2}


def test_statistics_are_those_of_the_docstring(recorded):
    mid = (recorded[:, 0, 0] + recorded[:, 0, 2]) / 2
    spread = 1e4 * (recorded[:, 0, 0] - recorded[:, 0, 2]) / mid
    assert np.median(spread) == pytest.approx(5, abs=1)
    assert np.median(recorded[:, 0, 1]) == pytest.approx(2.5, abs=0.5)
    assert np.median(recorded[:, 9, 1]) == pytest.approx(2.6, abs=0.5)
    assert (np.diff(mid) != 0).mean() == pytest.approx(0.13, abs=0.02)
    sums = np.concatenate([[0], np.cumsum(mid)])
    ahead = (sums[AHEAD + 1 :] - sums[1:-AHEAD]) / AHEAD
    move = 1e4 * (ahead / mid[: len(ahead)] - 1)
    assert (np.abs(move) >= 1).mean() == pytest.approx(0.65, abs=0.05)
    shares = [
        (move < -FLAT_BPS).mean(),
        (np.abs(move) <= FLAT_BPS).mean(),
        (move > FLAT_BPS).mean(),
    ]
    assert shares == pytest.approx([0.40, 0.21, 0.39], abs=0.04)
    bid, ask = recorded[: len(move), 0, 3], recorded[: len(move), 0, 1]
    found = np.corrcoef((bid - ask) / (bid + ask), move.clip(-5, 5))[0, 1]
    assert found == pytest.approx(0.32, abs=0.04)
