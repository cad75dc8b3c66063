from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.document_words import shape
from qtool.data.generators.receipts import FIELDS, SCHEMA, Receipts
from qtool.data.source import open_source


def table(source: Receipts, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


@pytest.fixture(scope="module")
def rows():
    return table(Receipts(256, seed=7)).to_pylist()


def values(row, field):
    found = zip(row["text"], row["tags"], strict=True)
    return [word for word, tag in found if tag and FIELDS[tag - 1] == field]


def test_a_config_opens_it():
    source = open_source(GeneratorSource(generator="receipts", rows=10, seed=3))
    assert source == Receipts(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=3, deadline=None)
@given(batch_rows=st.integers(20, 100), rows=st.integers(1, 140))
def test_rows_depend_neither_on_the_batch_size_nor_on_how_many_follow(rows, batch_rows):
    longer = table(Receipts(140, seed=7))
    batches = list(Receipts(rows, seed=7).batches(SCHEMA.names, batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    assert pa.Table.from_batches(batches).equals(longer.slice(0, rows))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [Receipts(10, 7), Receipts(11, 7), Receipts(10, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_every_receipt_has_each_field_and_one_value_of_it(rows):
    for row in rows:
        assert len({len(row[name]) for name in ("text", "tokens", "boxes", "tags")}) == 1
        assert set(row["tags"]) == {0, 1, 2, 3, 4}
        runs = Counter(tag for tag, _ in groupby(row["tags"]))
        assert [runs[1 + FIELDS.index(field)] for field in ("date", "total")] == [1, 1]
    # A character that is misread in the middle makes several words of one.
    totals = [values(row, "total") for row in rows]
    assert np.mean([len(total) == 1 for total in totals]) > 0.97
    assert np.mean([shape(total[0])[-3:] == ".00" for total in totals]) > 0.95


def test_sizes_and_vendors_are_those_of_the_docstring(rows):
    lengths = np.array([len(row["text"]) for row in rows])
    assert np.median(lengths) == pytest.approx(109, abs=4)
    companies = Counter(" ".join(values(row, "company")) for row in rows)
    assert 0.22 < sum(count == 1 for count in companies.values()) / len(rows) < 0.4
    assert max(companies.values()) > 0.04 * len(rows)
    address = np.mean([len(values(row, "address")) for row in rows])
    assert address == pytest.approx(10.7, abs=1)


def test_the_total_is_seldom_the_only_amount_that_is_called_so(rows):
    called = [sum(word.lower() == "total" for word in row["text"]) for row in rows]
    assert np.mean(np.array(called) >= 2) > 0.5
    repeated = [row["text"].count(values(row, "total")[0]) > 1 for row in rows]
    assert np.mean(repeated) > 0.5
