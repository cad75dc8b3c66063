from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtool.config.data import GeneratorSource
from qtool.data.generators.macro_quarters import (
    ECONOMIES,
    EQUATIONS,
    LAGS,
    QUARTERS,
    SCHEMA,
    VARIABLES,
    MacroQuarters,
    one_quarter,
    quarter_batch,
    read_by,
)
from qtool.data.source import open_source

COUNT = len(VARIABLES)
AT = {name: index for index, name in enumerate(VARIABLES)}


def table(source: MacroQuarters, batch_rows: int = 8192) -> pa.Table:
    return pa.Table.from_batches(source.batches(SCHEMA.names, batch_rows))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    flat = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(column), -1).astype(np.float64)


@pytest.fixture(scope="module")
def rows():
    made = table(MacroQuarters(ECONOMIES * QUARTERS, seed=7))
    return matrix(made["values"]), matrix(made["lags"])


def test_a_config_opens_it():
    section = GeneratorSource(generator="macro_quarters", rows=10, seed=3)
    source = open_source(section)
    assert source == MacroQuarters(rows=10, seed=3)
    assert table(source).schema == SCHEMA


@settings(max_examples=4, deadline=None)
@given(batch_rows=st.integers(500, 20_000), rows=st.integers(1, 13_000))
def test_the_size_of_the_batches_changes_nothing(batch_rows, rows):
    source = MacroQuarters(rows, seed=7)
    batches = list(source.batches(["economy", "values"], batch_rows))
    assert max(batch.num_rows for batch in batches) <= batch_rows
    made = pa.Table.from_batches(batches)
    assert made.num_rows == rows
    assert made.equals(table(source).select(["economy", "values"]))


def test_seed_and_rows_decide_the_fingerprint():
    sources = [MacroQuarters(60, 7), MacroQuarters(61, 7), MacroQuarters(60, 8)]
    assert len({source.fingerprint() for source in sources}) == 3
    assert table(sources[0]) != table(sources[2])


def test_rows_of_a_panel_that_counts():
    days = np.array(["1964-09", "1964-12", "1965-03"], "datetime64[M]").astype("datetime64[D]")
    panel = np.zeros((LAGS + 3, 2, COUNT), np.float32)
    panel += np.arange(LAGS + 3)[:, None, None] + np.array([0, 100])[None, :, None]
    found = quarter_batch(["a", "b"], days, panel).to_pylist()
    assert [(row["economy"], row["quarter"], row["values"][0]) for row in found] == [
        ("a", "1964Q3", 2),
        ("b", "1964Q3", 102),
        ("a", "1964Q4", 3),
        ("b", "1964Q4", 103),
        ("a", "1965Q1", 4),
        ("b", "1965Q1", 104),
    ]
    for row in found:
        now = row["values"][0]
        assert row["causes"] == row["values"]
        assert row["lags"] == [now - 1] * COUNT + [now - 2] * COUNT


def test_a_quarter_by_hand():
    before, two_before = np.zeros((1, COUNT)), np.zeros((1, COUNT))
    before[0, AT["oil"]] = 2.0
    shocks = np.zeros((1, COUNT))
    shocks[0, AT["oil"]] = 1.0
    now = one_quarter(before, two_before, shocks)[0]
    oil = 0.95 + 0.15 * 2
    assert now[AT["oil"]] == pytest.approx(oil)
    usual = 0.4 * np.exp(-1.4)
    assert now[AT["commodities"]] == pytest.approx(0.45 * oil + 0.25 * (oil - 1 - usual))
    usual = 0.4 * np.exp(-0.7)
    assert now[AT["consumption"]] == pytest.approx(-0.04 * oil - 0.2 * (oil - 0.5 - usual))
    # Nothing of the same quarter reaches what stands before it.
    assert now[AT["housing"]] == 0


def test_causes_come_first_and_equations_read_no_more_than_they_are_made_of(rows):
    for name, equation in EQUATIONS.items():
        assert all(AT[cause] < AT[name] for cause in equation.paths)
        columns = read_by(name)
        assert [column for column in columns if column < COUNT] == sorted(
            AT[cause] for cause in equation.paths
        )
        assert {AT[cause] + COUNT for cause in equation.lags} <= set(columns)


def test_statistics_are_those_of_the_docstring(rows):
    values, lags = rows
    assert np.abs(values.mean(axis=0)).max() < 0.12
    assert values.std(axis=0) == pytest.approx(1, abs=0.2)
    fourth = ((values - values.mean(axis=0)) ** 4).mean(axis=0) / values.var(axis=0) ** 2
    assert np.median(fourth) == pytest.approx(5.3, abs=0.8)
    share = {}
    for name in VARIABLES:
        both = np.hstack([values, lags])[:, read_by(name)]
        design = np.column_stack([np.ones(len(both)), both])
        target = values[:, AT[name]]
        coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
        share[name] = 1 - (target - design @ coefficients).var() / target.var()
    assert min(share, key=share.get) == "oil"
    assert share["oil"] == pytest.approx(0.04, abs=0.02)
    assert share["inflation"] == pytest.approx(0.84, abs=0.05)
    assert np.mean(list(share.values())) == pytest.approx(0.46, abs=0.04)
    persistence = np.corrcoef(values[:, AT["inflation"]], lags[:, AT["inflation"]])[0, 1]
    assert persistence == pytest.approx(0.87, abs=0.05)


def test_dear_oil_harms_more_than_cheap_oil_helps(rows):
    values, _ = rows
    oil, consumption = values[:, AT["oil"]], values[:, AT["consumption"]]
    dear, cheap = oil > 1, oil < -1
    assert np.polyfit(oil[dear], consumption[dear], 1)[0] < -0.12
    assert abs(np.polyfit(oil[cheap], consumption[cheap], 1)[0]) < 0.1
