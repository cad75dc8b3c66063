from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.bank_statements import (
    FIRST_NUMBER,
    INVOICES,
    NEAREST,
    SCHEMA,
    BankStatements,
    candidates,
)
from qtool.data.generators.chunks import random_stream
from qtool.data.generators.remittances import (
    KINDS,
    LONGEST,
    NAMES,
    REFERENCES,
    TOKENS,
    UNKNOWN,
    UNPAID,
    BankLine,
    Invoice,
    customer,
    ledger_text,
    pay,
    tokens,
)
from qtool.data.source import open_source

SOME = ["statement", "item", "match"]


def table(source: BankStatements, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    made = table(BankStatements(20_000, seed=7))
    return {name: made[name].to_pylist() for name in SCHEMA.names}


def numbers(rows, name):
    return np.array([np.nan if value is None else value for value in rows[name]])


def test_a_config_opens_it():
    section = GeneratorSource(generator="bank_statements", rows=10, seed=3)
    source = open_source(section)
    assert source == BankStatements(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=2, deadline=None)
@given(batch_rows=st.integers(500, 8_000), rows=st.integers(6_000, 9_000))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = BankStatements(rows, seed=7)
    batches = list(source.batches(SOME, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(SOME))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [BankStatements(10, 7), BankStatements(11, 7), BankStatements(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_words_and_trigrams_by_hand():
    found = tokens("RE536 A")
    # <RE>: whole, <RE, RE>; <536>: whole, <53, 536, 36>; <A> alone.
    assert len(found) == 3 + 4 + 1
    assert tokens("RE") + tokens("536") + tokens("A") == found
    assert tokens("536")[1:] != tokens("546")[1:]
    assert tokens("5364")[1] == tokens("5369")[1]
    assert all(0 < token < TOKENS for token in found)
    assert tokens("") == []


def test_a_ledger_text_has_name_number_and_customer():
    invoice = Invoice(536_365, 17_850, False, 14_944, 10.0)
    assert ledger_text(invoice) == f"{' '.join(customer(17_850).name)} 536365 C17850"
    assert customer(17_850) is customer(17_850)


def test_shares_are_shares():
    for shares in (KINDS, REFERENCES, NAMES):
        assert sum(shares.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def ledger():
    random = np.random.default_rng(0)
    return [
        Invoice(1000 + at, int(random.integers(12_346, 12_900)), at % 10 == 0, 15_000 + at // 20,
                float(random.integers(500, 50_000)) / 100)
        for at in range(2_000)
    ]  # fmt: skip


def test_every_payment_adds_up(ledger):
    lines = pay(ledger, random_stream(1, 2))
    assert lines == sorted(lines, key=lambda line: line.day)
    paid: dict[tuple[int, ...], list[BankLine]] = {}
    for line in lines:
        assert (line.day + 3) % 7 < 5  # no Saturday, no Sunday
        assert len(line.text) <= LONGEST
        assert line.amount > 0
        assert all(line.day > ledger[at].issued for at in line.pays)
        paid.setdefault(line.pays, []).append(line)
    unknown = paid.pop(())
    assert len(unknown) / (len(lines) - len(unknown)) == pytest.approx(UNKNOWN, abs=0.002)
    owners = [at for pays in paid for at in pays]
    assert len(owners) == len(set(owners))
    assert 1 - len(owners) / len(ledger) == pytest.approx(UNPAID, abs=0.015)
    for pays, group in paid.items():
        total = sum(ledger[at].amount for at in pays)
        arrived = sum(line.amount for line in group)
        kind = group[0].kind
        assert len(group) == (2 if kind == "split" else 1)
        assert len(pays) == 1 or kind == "combined"
        assert len({ledger[at].customer for at in pays}) == 1
        if kind in {"full", "combined", "split"}:
            assert arrived == pytest.approx(total, abs=0.02)
        elif kind == "discount":
            assert 0.969 < arrived / total < 0.981
        elif kind == "short":
            assert arrived < total + 0.001
        else:
            assert arrived == pytest.approx(total, abs=12.51 + 0.03 * total)


def test_candidates_are_open_nearest_and_labelled(ledger):
    made = candidates(ledger[:200], random_stream(1, 2), "").to_pylist()
    lines = pay(ledger[:200], random_stream(1, 2))
    numbers = {invoice.number: invoice for invoice in ledger}
    for row in made:
        line, item = lines[row["line"]], numbers[row["item"]]
        days = (row["date"] - np.datetime64(item.issued, "D").item()).days
        assert days == row["days"] >= 0
        assert row["statement"] == str(row["date"])
        assert row["bank_amount"] == line.amount
        assert row["difference"] == pytest.approx(line.amount - item.amount, abs=0.006)
        assert row["exact"] == (abs(row["difference"]) < 0.005)
        assert row["match"] == (item.number in [ledger[at].number for at in line.pays])
        assert row["bank"] == tokens(line.text)
        assert row["ledger"] == tokens(ledger_text(item))
        if row["days_after_due"] is not None:
            assert row["days_after_due"] == days - customer(item.customer).terms
    pairs = [(row["line"], row["item"]) for row in made]
    assert len(pairs) == len(set(pairs))
    of_a_line = np.unique([line for line, _ in pairs], return_counts=True)[1]
    assert of_a_line.max() == 2 * NEAREST


def test_statistics_are_those_of_the_docstring(rows):
    match, exact = numbers(rows, "match"), numbers(rows, "exact")
    assert match.mean() == pytest.approx(0.16, abs=0.01)
    assert exact[match == 1].mean() == pytest.approx(0.64, abs=0.03)
    assert exact[match == 0].mean() == pytest.approx(0.016, abs=0.004)
    assert np.median(numbers(rows, "ledger_amount")) == pytest.approx(253, abs=25)
    assert np.median(numbers(rows, "days")[match == 1]) == pytest.approx(32, abs=2)
    assert np.median(numbers(rows, "near_amounts")) == 2
    lines = list(zip(rows["statement"], rows["line"], strict=True))
    found = {line for line, hit in zip(lines, match, strict=True) if hit}
    assert len(found) / len(set(lines)) == pytest.approx(0.92, abs=0.015)
    assert np.median([len(text) for text in rows["bank"]]) == pytest.approx(33, abs=1)
    assert np.isnan(numbers(rows, "days_after_due")).mean() == pytest.approx(0.04, abs=0.01)
    shares = {kind: rows["kind"].count(kind) / len(lines) for kind in set(rows["kind"])}
    assert shares["full"] == pytest.approx(0.62, abs=0.02)
    assert shares["combined"] == pytest.approx(0.037, abs=0.01)


def test_accounts_follow_each_other(rows):
    first = {name: min(numbers(rows, "item")[[text.startswith(name) for text in rows["statement"]]])
             for name in ("account 1,", "account 2,")}  # fmt: skip
    assert first["account 1,"] >= FIRST_NUMBER
    assert first["account 2,"] >= FIRST_NUMBER + INVOICES
