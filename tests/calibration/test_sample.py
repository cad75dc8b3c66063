from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.graphs import mlp

from qtool.calibration.calibrate import ranges
from qtool.calibration.sample import masks_of, observe_sample
from qtool.config.data import Data
from qtool.config.quantization import Calibrated, StaticQuantization
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.source import open_source
from qtool.graph.planner import make_plan
from qtool.graph.prepare.pipeline import prepare
from qtool.graph.targets import TARGETS
from qtool.numerics.observers import observer
from qtool.progress import SilentProgress

ROWS = 12_000


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    generator = np.random.default_rng(0)
    x = np.clip(generator.standard_normal((ROWS, 8)), -2.5, 2.5).astype(np.float32)
    columns = {f"c{index}": x[:, index] for index in range(8)}
    bad = (generator.random(ROWS) < 0.02).astype(np.int8)
    path = tmp_path_factory.mktemp("sample") / "rows.parquet"
    pq.write_table(pa.table({**columns, "bad": bad}), path)
    return path


@pytest.fixture(scope="module")
def model():
    return prepare(mlp())


@pytest.fixture(scope="module")
def plan(model):
    return make_plan(model, "sha", StaticQuantization(method="static"), TARGETS["x86_amx"])


def data_of(file, **options):
    inputs = {"x": {"columns": [f"c{index}" for index in range(8)]}}
    split = {"by": "hash", "calibration": 0.5, "evaluation": 0.2}
    section = Data.model_validate(
        {"source": file, "label": "bad", "inputs": inputs, "split": split, **options}
    )
    source = open_source(file)
    return Dataset(source, section, fit(source, section, SilentProgress()))


def observed(data, model, plan, seed=0, **options):
    section = StaticQuantization(method="static", **options)
    return observe_sample(data, model, plan, section, seed, SilentProgress())


def test_a_fixed_sample_has_its_rows_and_enough_positives(file, model, plan):
    data = data_of(file)
    found, sample = observed(data, model, plan, samples=1000)
    assert len(sample.rows) == 1000
    assert sample.positives == 100  # the default share
    assert [(check.rows, check.tensor) for check in sample.checks] == [(1000, "")]
    assert {int(seen.histogram.total[0]) for seen in found.values()} >= {1000}


def test_auto_stops_early_and_tells_why(file, model, plan):
    data = data_of(file)
    found, sample = observed(data, model, plan, samples="auto")
    assert [check.rows for check in sample.checks][:2] == [512, 1024]
    last = sample.checks[-1]
    assert last.largest_change <= 0.01 or last.rows == data.fitted.counts.rows["calibration"]
    assert last.rows == len(sample.rows) < 6000
    # What was seen in steps is the sample of that size, in another order of rows.
    fixed, same = observed(data, model, plan, samples=last.rows)
    np.testing.assert_array_equal(same.rows, sample.rows)
    assert same.positives == sample.positives
    for name, seen in fixed.items():
        for field, value in dataclasses.asdict(seen.histogram).items():
            np.testing.assert_array_equal(getattr(found[name].histogram, field), value)


def test_auto_never_takes_more_than_there_is(file, model, plan):
    data = data_of(file, split={"by": "hash", "calibration": 0.02, "evaluation": 0.5})
    available = data.fitted.counts.rows["calibration"]
    _, sample = observed(data, model, plan, samples="auto")
    assert [check.rows for check in sample.checks] == [available]
    _, sample = observed(data, model, plan, samples=10**9)
    assert len(sample.rows) == available


@pytest.mark.parametrize("method", ["min_max", "moving_average", "percentile", "entropy", "mse"])
def test_the_size_of_batches_does_not_matter(file, model, plan, method):
    chosen: Calibrated = StaticQuantization(
        method="static", samples="auto", observer={"method": method}
    )
    results = []
    for batch_rows in (100, 8192):
        data = data_of(file, batch_rows=batch_rows)
        found, sample = observe_sample(data, model, plan, chosen, 0, SilentProgress())
        results.append((ranges(plan, found, observer(chosen.observer)), sample))
    (left, one), (right, other) = results
    assert one.checks == other.checks
    for name, known in left.items():
        np.testing.assert_equal(vars(known), vars(right[name]))


def test_without_a_label_the_sample_is_uniform(file, model, plan):
    _, sample = observed(data_of(file, label=None), model, plan, samples=500)
    assert sample.positives is None
    assert len(sample.rows) == 500


def test_memory_does_not_grow_with_the_sample(file, model, plan):
    data = data_of(file, batch_rows=256)
    peaks = []
    for samples in (300, 300, 5000):  # the first one warms up
        tracemalloc.start()
        observed(data, model, plan, samples=samples)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000


def test_masks_belong_to_their_inputs(file):
    inputs = {
        "x": {"kind": "sequence", "columns": ["ids"], "mask": "x_mask"},
        "y": {"kind": "sequence", "columns": ["more"]},
        "z": {"columns": ["c0"]},
    }
    section = Data.model_validate({"source": file, "inputs": inputs})
    assert masks_of(Dataset(None, section, None)) == {"x": "x_mask"}
