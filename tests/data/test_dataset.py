from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qtool.config.task import Task
from qtool.data.batch import Batch, join, rechunk
from qtool.data.dataset import Dataset
from qtool.data.fitting import fit
from qtool.data.memory_map import open_rows, write_rows
from qtool.data.split import SPLITS
from qtool.errors import DataError, OutputError
from qtool.progress import SilentProgress

SILENT = SilentProgress()


@pytest.fixture
def dataset(credit, credit_inputs, make_source, make_data) -> Dataset:
    columns = {name: credit[name].combine_chunks() for name in credit.column_names}
    source, data = (
        make_source(columns),
        make_data(credit_inputs, split={"by": "hash", "key": "key"}),
    )
    return Dataset(source, data, fit(source, data, SILENT))


def test_splits_are_all_rows_once_with_keys_together(dataset: Dataset, credit) -> None:
    parts = {name: join(list(dataset.batches(name))) for name in SPLITS}
    for name, part in parts.items():
        assert len(part) == dataset.fitted.counts.rows[name]
        assert part.labels.sum() == dataset.fitted.counts.positives[name]
        assert (np.diff(part.rows) > 0).all()
        labels = credit["y"].to_numpy()[part.rows]
        np.testing.assert_array_equal(part.labels, labels)
    rows = np.concatenate([part.rows for part in parts.values()])
    assert sorted(rows) == list(range(2_000))
    keys = [set(credit["key"].to_numpy()[part.rows]) for part in parts.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))


@pytest.mark.parametrize("batch_rows", [1, 64, 10_000])
def test_batch_size_changes_nothing_but_the_cuts(dataset: Dataset, batch_rows: int) -> None:
    whole = join(list(dataset.batches("training")))
    batches = list(dataset.batches("training", batch_rows))
    assert all(len(batch) == batch_rows for batch in batches[:-1])
    again = join(batches)
    np.testing.assert_array_equal(again.rows, whole.rows)
    for name, values in whole.inputs.items():
        assert again.inputs[name].tobytes() == values.tobytes()
        assert again.inputs[name].dtype == values.dtype


def test_raw_batches_are_the_same_rows(dataset: Dataset, credit) -> None:
    (raw,) = dataset.raw_batches("evaluation")
    (encoded,) = dataset.batches("evaluation")
    np.testing.assert_array_equal(raw.rows, encoded.rows)
    np.testing.assert_array_equal(raw.inputs["codes.mcc"], credit["mcc"].to_numpy()[raw.rows])
    part = dataset.fitted.encoder.inputs["numbers"]
    np.testing.assert_array_equal(part.apply(raw.inputs["numbers"]), encoded.inputs["numbers"])


def test_materialized_rows_equal_the_stream(dataset: Dataset, tmp_path: Path) -> None:
    for _ in range(2):  # a second run replaces the files
        rows = dataset.materialize("training", tmp_path / "new" / "cache", SILENT)
    stream = join(list(dataset.batches("training")))
    np.testing.assert_array_equal(rows.labels, stream.labels)
    assert list(rows.inputs) == list(stream.inputs)
    for name, values in rows.inputs.items():
        assert isinstance(values, np.memmap)
        np.testing.assert_array_equal(values, stream.inputs[name])


@pytest.mark.parametrize(
    ("task", "label", "dtype", "shape"),
    [
        ("multiclass_classification", "country", np.int64, ()),
        ("regression", "balance", np.float32, ()),
        ("regression", ["balance", "mcc"], np.float32, (2,)),
        ("representation", "country", np.int64, ()),
        ("representation", None, None, ()),
        ("language_model", None, None, ()),
    ],
)
def test_materialized_labels_of_any_task(
    credit, make_source, make_data, tmp_path: Path, task: Task, label, dtype, shape
) -> None:
    countries = ["DE" if n % 3 else "FR" for n in range(2_000)]
    source = make_source(
        {"income": [1.0] * 2_000, "country": countries}
        | {name: credit[name].combine_chunks() for name in ("balance", "mcc")}
    )
    data = make_data({"x": {"columns": ["income"]}}, label=label)
    dataset = Dataset(source, data, fit(source, data, SILENT, task), task)
    rows = dataset.materialize("training", tmp_path, SILENT)
    assert len(rows) == dataset.fitted.counts.rows["training"]
    if dtype is None:
        assert rows.labels is None
        return
    stream = join(list(dataset.batches("training")))
    assert (rows.labels.dtype, rows.labels.shape) == (dtype, (len(rows), *shape))
    np.testing.assert_array_equal(rows.labels, stream.labels)


@pytest.mark.parametrize("label", ["y", None])
def test_written_rows_are_opened_again(
    credit, credit_inputs, make_source, make_data, tmp_path: Path, label
) -> None:
    columns = {name: credit[name].combine_chunks() for name in credit.column_names}
    source, data = make_source(columns), make_data(credit_inputs, label=label)
    dataset = Dataset(source, data, fit(source, data, SILENT))
    written = dataset.materialize("training", tmp_path, SILENT)
    opened = open_rows(tmp_path, list(written.inputs), labels=label is not None)
    np.testing.assert_array_equal(opened.labels, written.labels)
    assert list(opened.inputs) == list(written.inputs)
    for name, values in opened.inputs.items():
        np.testing.assert_array_equal(values, written.inputs[name])


def test_disk_full(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array_header_1_0", full)
    with pytest.raises(OutputError, match="No space left on device"):
        dataset.materialize("training", tmp_path, SILENT)


def batch(rows: list[int]) -> Batch:
    numbers = np.array(rows, np.int64)
    return Batch(numbers, (numbers % 2).astype(np.int8), {"x": numbers[:, None] * np.float32(2)})


def test_source_that_changed_since_it_was_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 rows; expected the 4 rows"):
        write_rows(iter([batch([0, 1, 2])]), 4, tmp_path, "x", SILENT)


def test_rechunk_by_hand() -> None:
    pieces = [batch([0, 1, 2, 3, 4]), batch([]), batch([5]), batch([6, 7])]
    chunks = list(rechunk(pieces, 3))
    assert [chunk.rows.tolist() for chunk in chunks] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert chunks[1].inputs["x"].tolist() == [[6], [8], [10]]
