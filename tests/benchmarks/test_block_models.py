from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qtool.graph.model_file import inputs_of
from qtool.runtime.sessions import Session

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# One of every kind that is exported within a second or two.
SMALL = ("mlp-64x3", "mlp-3d", "encoder-d128x2-s60", "tcn-c32", "lstm-h64")


@pytest.fixture
def models(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import block_models

    return block_models


def output(model, rows):
    session = Session(model, "test")
    return session.run(rows)[session.output_names[0]]


@pytest.mark.parametrize("name", SMALL)
def test_a_block_runs_at_any_batch_size_row_by_row(models, name):
    block = models.BLOCKS[name]()
    rows = block.rows(3, 1)
    whole = output(block.model, rows)
    assert len(whole) == 3
    assert np.isfinite(whole).all()
    assert whole.std(axis=0).min() > 0, "the output does not depend on the row"
    first = output(block.model, {name: array[:1] for name, array in rows.items()})
    np.testing.assert_allclose(whole[:1], first, rtol=1e-3, atol=1e-5)


def test_a_block_is_the_same_every_time(models):
    once, again = (models.BLOCKS["mlp-64x3"]() for _ in range(2))
    rows = once.rows(4, 1)
    np.testing.assert_array_equal(output(once.model, rows), output(again.model, rows))


def test_rows_follow_their_seed(models):
    block = models.BLOCKS["encoder-masked-d256x2-s64"]()
    first, same, other = (block.rows(5, seed) for seed in (1, 1, 2))
    assert {info.name for info in inputs_of(block.model)} == set(first)
    for name, array in first.items():
        np.testing.assert_array_equal(array, same[name])
        assert (array != other[name]).any()
    mask = first["mask"]
    assert (np.diff(mask, axis=1) <= 0).all(), "padding comes after the real steps"
    assert mask.any(axis=1).all()


def test_codes_stay_inside_their_tables(models):
    codes = models.BLOCKS["two-tower"]().rows(1000, 3)["codes"]
    assert codes.dtype == np.int64
    assert codes.min() >= 0
    assert (codes.max(axis=0) < [5000, 4000]).all()


def test_two_dimensional_convolutions_compute_the_same(models):
    flat, wide = models.BLOCKS["tcn-c32"](), models.CONV2D["tcn-c32"]()
    rows = flat.rows(2, 1)
    np.testing.assert_allclose(output(flat.model, rows), output(wide.model, rows), atol=1e-5)
