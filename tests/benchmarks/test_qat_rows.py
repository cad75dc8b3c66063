from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtool.data.hashing import splitmix64

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def write(table, folder, name):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), folder / name)


def same(rows, others):
    arrays = {**rows.inputs, "labels": rows.labels}
    others = {**others.inputs, "labels": others.labels}
    return all(np.array_equal(array, others[name]) for name, array in arrays.items())


def test_window_ends_by_hand():
    from qat_rows import window_ends

    # Cut at 24 and 30: windows end 3 after the start of their piece and 2 before its end.
    training, validation, test = window_ends(40, past=3, future=2, strides=(6, 1, 2))
    assert training.tolist() == [3, 9, 15, 21]
    assert validation.tolist() == [27]
    assert test.tolist() == [33, 35, 37]


@given(
    steps=st.integers(1, 400),
    past=st.integers(0, 30),
    future=st.integers(0, 30),
    stride=st.integers(1, 9),
)
def test_no_window_with_its_label_reaches_into_another_split(steps, past, future, stride):
    from qat_rows import window_ends

    parts = window_ends(steps, past=past, future=future, strides=(stride,) * 3)
    reach = range(-past, future + 1)
    touched = [{end + offset for end in part for offset in reach} for part in parts]
    assert not touched[0] & touched[1]
    assert not touched[1] & touched[2]
    assert not touched[0] & touched[2]
    assert set().union(*touched) <= set(range(steps))


def test_a_row_keeps_its_split_when_others_come():
    from qat_rows import by_hash

    hashes = splitmix64(np.arange(20_000, dtype=np.uint64))
    parts = by_hash(hashes)
    assert sorted(np.concatenate(parts)) == list(range(20_000))
    assert [len(part) / 20_000 for part in parts] == pytest.approx([0.6, 0.15, 0.25], abs=0.01)
    fewer = by_hash(hashes[:100])
    assert all(set(few) == set(part[part < 100]) for few, part in zip(fewer, parts, strict=True))


def test_columns_are_scaled_by_the_training_rows():
    from qat_rows import standardized

    values = np.array([[1.0, 7.0], [3.0, 7.0], [9.0, 8.0]])
    scaled = standardized(values, values[:2])  # mean 2 and 7, deviation 1 and 0
    assert scaled.tolist() == [[-1, 0], [1, 0], [7, 1]]
    assert scaled.dtype == np.float32


def test_inputs_start_with_the_test_rows():
    from qat_rows import Rows, Splits

    parts = (Rows({"x": np.array(values)}, np.zeros(2)) for values in ([1, 2], [3, 4], [5, 6]))
    splits = Splits(*parts)
    assert splits.inputs(3)["x"].tolist() == [5, 6, 3]
    assert splits.inputs(9)["x"].tolist() == [5, 6, 3, 4, 1, 2]


def credit_table(rows=300):
    from qat_tables import CREDIT_AMOUNTS, CREDIT_CODES, CREDIT_LABEL, CREDIT_STATES

    generator = np.random.default_rng(1)
    table = {"ID": np.arange(rows)}
    table |= {name: generator.integers(-1000, 100_000, rows) for name in CREDIT_AMOUNTS}
    table |= {name: generator.integers(-2, 9, rows) for name in CREDIT_STATES}
    table |= {name: generator.choice(codes, rows) for name, codes in CREDIT_CODES.items()}
    return {**table, "AGE": generator.integers(21, 70, rows), CREDIT_LABEL: np.arange(rows) % 2}


def test_credit_rows_and_their_scaling_know_nothing_of_the_test_rows(tmp_path):
    from qat_rows import by_hash
    from qat_tables import CREDIT_COLUMNS, credit

    table = credit_table()
    folder, name = tmp_path / "taiwan_credit_default", "taiwan_credit_default.parquet"
    write(table, folder, name)
    before = credit(tmp_path)
    table["BILL_AMT1"][by_hash(splitmix64(table["ID"].astype(np.uint64)))[2]] += 12_345
    write(table, folder, name)
    after = credit(tmp_path)
    assert before.training.inputs["x"].shape[1] == CREDIT_COLUMNS
    assert same(before.training, after.training)
    assert same(before.validation, after.validation)
    assert not same(before.test, after.test)


def test_bank_rows_do_not_hold_the_duration_of_the_call(tmp_path):
    from qat_tables import BANK_CATEGORIES, BANK_COLUMNS, BANK_NUMBERS, NEVER_CONTACTED, bank

    generator = np.random.default_rng(2)
    table = {name: generator.standard_normal(200) for name in BANK_NUMBERS}
    table |= {name: generator.choice(known, 200) for name, known in BANK_CATEGORIES.items()}
    table["pdays"] = np.where(np.arange(200) % 2 == 0, NEVER_CONTACTED, 6)
    table |= {"duration": np.arange(200), "y": generator.choice(["no", "yes"], 200)}
    folder = tmp_path / "bank_marketing"
    write(table, folder, "bank-additional-full.parquet")
    before = bank(tmp_path)
    write({**table, "duration": np.zeros(200)}, folder, "bank-additional-full.parquet")
    assert before.training.inputs["x"].shape[1] == BANK_COLUMNS
    assert np.isfinite(before.training.inputs["x"]).all()
    assert all(same(*pair) for pair in zip(before.all(), bank(tmp_path).all(), strict=True))


def test_words_are_numbered_by_frequency():
    from qat_tables import vocabulary

    assert vocabulary([["card", "b"], ["card", "a"]]) == {"card": 2, "a": 3, "b": 4}


def test_words_of_test_questions_are_unknown(tmp_path):
    from qat_tables import PADDING, UNKNOWN, WORDS, intents

    texts = [f"My card, number{n % 7}?" for n in range(50)]
    labels = [f"intent{n % 3}" for n in range(50)]
    write({"text": texts, "category": labels}, tmp_path / "banking77", "train.parquet")
    asked = {"text": ["Card surprising", "w " * 99, "?"], "category": ["intent2"] * 3}
    write(asked, tmp_path / "banking77", "test.parquet")
    splits = intents(tmp_path)
    assert len(splits.training) + len(splits.validation) == 50
    tokens, mask = splits.test.inputs["tokens"], splits.test.inputs["mask"]
    known = splits.training.inputs["tokens"]
    assert tokens[0].tolist() == [known[0, 1], UNKNOWN] + [PADDING] * (WORDS - 2)
    assert mask.sum(axis=1).tolist() == [2, WORDS, 1], "a text without words still has one"
    assert splits.test.labels.tolist() == [2, 2, 2]


def book_table(steps=1200):
    from qat_windows import BIN_BPS, LEVELS

    generator = np.random.default_rng(3)
    mid = 235 + generator.choice([-0.01, 0, 0.01], steps).cumsum()
    table = {"timestamp": np.arange(steps)}
    for side, sign in (("bid", -1), ("ask", 1)):
        table[f"best.{side}.price"] = mid + sign * 0.05
        table[f"best.{side}.vol"] = generator.uniform(0, 1e9, steps)
        for level in range(1, LEVELS):
            volume = generator.choice([0, 1e8], steps)
            price = np.where(volume > 0, mid * (1 + sign * level * BIN_BPS * 1e-4), np.nan)
            table[f"{side}.vol{level * BIN_BPS}bps"] = volume
            table[f"{side}.vwap{level * BIN_BPS}bps"] = price
    return table


def book(tmp_path, table):
    from qat_windows import book_channels

    write(table, tmp_path / "bitstamp_btcusd_lob", "depth_summary.parquet")
    return book_channels(tmp_path)


def test_training_windows_of_the_book_know_nothing_of_later_snapshots(tmp_path):
    table = book_table()
    before = book(tmp_path, table)
    for name, values in table.items():
        if name != "timestamp":
            values[int(0.6 * len(values)) :] *= 1.01
    after = book(tmp_path, table)
    assert same(before.training, after.training)
    assert not same(before.validation, after.validation)
    assert all(np.isfinite(rows.inputs["x"]).all() for rows in before.all())


def test_labels_of_the_book_follow_its_mid_price(tmp_path):
    table = book_table()
    step = np.arange(1200)
    # Still, then rising, then falling for the whole test.
    mid = 235 + np.where(step < 300, 0, 0.01 * np.where(step < 900, step - 300, 1500 - step))
    table["best.bid.price"], table["best.ask.price"] = mid - 0.05, mid + 0.05
    splits = book(tmp_path, table)
    assert set(splits.training.labels) == {1, 2}
    assert set(splits.test.labels) == {0}


def test_both_layouts_of_the_book_hold_the_same(tmp_path):
    from qat_windows import BOOK_COLUMNS, SNAPSHOTS, book_images

    channels, images = book(tmp_path, book_table()), book_images(tmp_path)
    x = images.test.inputs["x"]
    assert x.shape[1:] == (1, SNAPSHOTS, BOOK_COLUMNS)
    np.testing.assert_array_equal(x[:, 0].swapaxes(1, 2), channels.test.inputs["x"])


def stock_table(days=700, tickers=3):
    generator = np.random.default_rng(4)
    start = datetime.datetime(2013, 1, 1)
    close = 50 * np.exp(0.01 * generator.standard_normal((days, tickers)).cumsum(axis=0))
    spread = np.exp(generator.uniform(0, 0.03, (days, tickers)))
    bars = {"open": close, "high": close * spread, "low": close / spread, "close": close}
    bars["volume"] = generator.integers(1000, 9000, (days, tickers))
    table = {name: values.ravel() for name, values in bars.items()}
    dates = [start + datetime.timedelta(days=day) for day in range(days)]
    return {**table, "date": np.repeat(dates, tickers), "Name": ["A", "B", "C"] * days}


def stocks(tmp_path, table):
    from qat_windows import stock_volatility

    write(table, tmp_path / "sp500_5yr_daily", "all_stocks_5yr.parquet")
    return stock_volatility(tmp_path)


def test_training_windows_of_stocks_know_nothing_of_later_days(tmp_path):
    table = stock_table()
    before = stocks(tmp_path, table)
    late = slice(int(0.6 * 700) * 3, None)
    for name in ("open", "high", "low", "close", "volume"):
        table[name][late] = table[name][late] * 2
    table["high"][late] *= 1.1
    after = stocks(tmp_path, table)
    assert same(before.training, after.training)
    assert not same(before.validation, after.validation)


def test_a_window_of_stocks_ends_before_what_its_label_measures(tmp_path):
    from qat_windows import DAYS, DAYS_AHEAD, VOLUME_DAYS

    table = stock_table()
    before = stocks(tmp_path, table)
    last = DAYS + VOLUME_DAYS - 2  # the first training window ends here
    days = slice((last + 1) * 3, (last + 1 + DAYS_AHEAD) * 3)
    table["high"][days] *= 1.2
    after = stocks(tmp_path, table)
    assert (after.training.labels[:3] > before.training.labels[:3] + 0.5).all()
    # Both are scaled by training rows that hold the changed days.
    shifted = [rows.training.inputs["x"][:3, :, 0] for rows in (before, after)]
    np.testing.assert_allclose(*shifted)


def test_a_missing_bar_takes_its_windows_away(tmp_path):
    table = stock_table()
    whole = stocks(tmp_path, table)
    table["open"][100 * 3] = np.nan  # of ticker A
    assert 0 < len(whole.training) - len(stocks(tmp_path, table).training) <= 6
