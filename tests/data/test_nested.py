from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from qtool.data.batch import join
from qtool.data.columns import check_columns
from qtool.data.dataset import Dataset
from qtool.data.encoder_file import encoder_from_json, encoder_to_json
from qtool.data.fitting import fit
from qtool.data.nested import SequenceEncoding, TensorEncoding
from qtool.data.signature import Tensor
from qtool.data.source import open_source
from qtool.errors import DataError, StaleArtifactError
from qtool.progress import SilentProgress

SILENT = SilentProgress()
ROWS = 300
INPUTS: dict[str, Any] = {
    "tokens": {"kind": "sequence", "columns": ["mcc"], "length": 5, "mask": "real"},
    "history": {
        "kind": "sequence",
        "columns": ["amount", "gap"],
        "scale": "standard",
        "log": ["amount"],
        "keep": "last",
        "pad": -1,
        "mask": "seen",
        "mask_dtype": "float32",
    },
    "book": {"kind": "tensor", "columns": ["book"], "scale": "standard"},
    "age": {"columns": ["age"]},
}


@pytest.fixture
def cards() -> dict[str, Any]:
    """Card histories of zero to eight steps, an order book of 3 levels by 2 numbers, an age."""
    random = np.random.default_rng(1)
    lengths = random.integers(0, 9, ROWS)
    lengths[7] = 8
    book = pa.array(random.normal([5, -3], [1, 9], (ROWS, 3, 2)).ravel())
    for size in (2, 3):
        book = pa.FixedSizeListArray.from_arrays(book, size)
    return {
        "mcc": [random.integers(1, 50, n).tolist() for n in lengths],
        "amount": [random.lognormal(4, 1, n).tolist() for n in lengths],
        "gap": [random.integers(0, 9, n).tolist() for n in lengths],
        "book": book,
        "age": random.integers(18, 90, ROWS),
        "y": random.integers(0, 2, ROWS),
    }


@pytest.fixture
def dataset(cards, make_source, make_data) -> Dataset:
    source, data = make_source(cards, (13, 5)), make_data(INPUTS)
    return Dataset(source, data, fit(source, data, SILENT))


def test_shapes_dtypes_and_masks(dataset: Dataset, cards) -> None:
    encoder = dataset.fitted.encoder
    signature = encoder.signature()
    assert signature == {
        "tokens": Tensor("int64", (5,)),
        "real": Tensor("int64", (5,)),
        "history": Tensor("float32", (8, 2)),  # the longest row, since no length is given
        "seen": Tensor("float32", (8,)),
        "book": Tensor("float32", (3, 2)),
        "age": Tensor("float32", (1,)),
    }
    batch = join(list(dataset.batches("evaluation", 17)))
    for name, made in signature.items():
        assert batch.inputs[name].dtype == made.dtype
        assert batch.inputs[name].shape == (len(batch), *made.shape)
    lengths = np.array([len(cards["mcc"][row]) for row in batch.rows])
    np.testing.assert_array_equal(batch.inputs["real"].sum(axis=1), np.minimum(lengths, 5))
    np.testing.assert_array_equal(batch.inputs["seen"].sum(axis=1), lengths)
    row = int(np.argmax(lengths > 5))
    assert batch.inputs["tokens"][row].tolist() == cards["mcc"][batch.rows[row]][:5]
    short = int(np.argmin(lengths))
    assert (batch.inputs["history"][short, lengths[short] :] == -1).all()


def test_steps_and_channels_are_scaled_on_the_training_split(dataset: Dataset) -> None:
    batch = join(list(dataset.batches("training")))
    real = batch.inputs["history"][batch.inputs["seen"] == 1]
    for values in (real, batch.inputs["book"].reshape(-1, 2)):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("batch_rows", [1, 50, 10_000])
def test_batch_size_changes_nothing(dataset, cards, make_source, make_data, batch_rows) -> None:
    source, data = make_source(cards, (1, 64)), make_data(INPUTS, batch_rows=batch_rows)
    other = Dataset(source, data, fit(source, data, SILENT))
    assert encoder_to_json(other.fitted.encoder) == encoder_to_json(dataset.fitted.encoder)
    expected, found = (join(list(each.batches("calibration"))) for each in (dataset, other))
    for name, values in expected.inputs.items():
        assert found.inputs[name].tobytes() == values.tobytes()


def test_raw_inputs_are_the_encoded_ones_but_for_tables(dataset: Dataset) -> None:
    encoded, raw = next(dataset.batches("training")), next(dataset.raw_batches("training"))
    assert list(raw.inputs) == list(encoded.inputs)
    np.testing.assert_array_equal(raw.inputs["history"], encoded.inputs["history"])


def test_lengths_are_found_with_and_without_a_mask(dataset: Dataset, cards) -> None:
    part = dataset.fitted.encoder.inputs["history"]
    assert isinstance(part, SequenceEncoding)
    batch = next(dataset.batches("training"))
    expected = [len(cards["gap"][row]) for row in batch.rows]
    assert part.lengths("history", batch.inputs).tolist() == expected
    bare = SequenceEncoding(**{**vars(part), "mask": None})
    assert bare.lengths("history", batch.inputs).tolist() == expected


def test_the_file_keeps_everything(dataset: Dataset, cards, make_source, make_data, tmp_path: Path):
    text = encoder_to_json(dataset.fitted.encoder)
    assert encoder_to_json(encoder_from_json(text, "encoder.json")) == text
    path = tmp_path / "encoder.json"
    path.write_text(text)
    source = make_source(cards)
    loaded = fit(source, make_data(INPUTS, encoder=str(path)), SILENT)
    assert encoder_to_json(loaded.encoder) == text
    for name, change, message in [
        ("tokens", {"length": 6}, "length 5, not 6"),
        ("tokens", {"dtype": "int32"}, "dtype int64, not int32"),
        ("history", {"scale": "none", "log": []}, "log columns"),
        ("history", {"mask": "other"}, "mask seen, not other"),
        ("book", {"kind": "sequence"}, "tensor, not sequence"),
    ]:
        changed = {**INPUTS, name: {**INPUTS[name], **change}}
        with pytest.raises(StaleArtifactError, match=message):
            fit(source, make_data(changed, encoder=str(path)), SILENT)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokens", {"length": 0}),
        ("tokens", {"width": 2}),
        ("tokens", {"keep": "none"}),
        ("tokens", {"dtype": "int8"}),
        ("tokens", {"dtype": "float32"}),
        ("tokens", {"stack": 1}),
        ("history", {"scaling": None}),
        ("history", {"width": 3}),
        ("history", {"pad": float("nan")}),
        ("book", {"shape": [3, 0]}),
        ("book", {"shape": [3, 4]}),
    ],
)
def test_files_that_contradict_themselves(dataset: Dataset, name, change) -> None:
    raw = json.loads(encoder_to_json(dataset.fitted.encoder))
    raw["inputs"][name].update(change)
    with pytest.raises(StaleArtifactError, match="not an encoder"):
        encoder_from_json(json.dumps(raw), "encoder.json")


def test_the_same_rows_from_parquet_and_npz(tmp_path: Path, make_data) -> None:
    random = np.random.default_rng(2)
    images = random.normal(size=(60, 2, 4, 3)).astype(np.float32)
    series = random.normal(size=(60, 6)).astype(np.float32)
    arrays = {"image": images, "series": series, "y": np.arange(60) % 2}
    np.savez(tmp_path / "a.npz", **arrays)
    lists = {name: pa.array(values.tolist()) for name, values in arrays.items()}
    pq.write_table(pa.table(lists), tmp_path / "a.parquet")  # lists of lists without a fixed size
    data = make_data(
        {
            "image": {"kind": "tensor", "columns": ["image"], "shape": [2, 4, 3]},
            "series": {"kind": "sequence", "columns": ["series"], "stack": True},
        },
        label=None,
    )
    for suffix in ("npz", "parquet"):
        source = open_source(tmp_path / f"a.{suffix}")
        fitted = fit(source, data, SILENT)
        part = fitted.encoder.inputs["image"]
        assert isinstance(part, TensorEncoding)
        batch = next(Dataset(source, data, fitted).batches("training"))
        np.testing.assert_array_equal(batch.inputs["image"], images[batch.rows])
        np.testing.assert_array_equal(batch.inputs["series"][:, :, 0], series[batch.rows])
        assert batch.labels is None


@pytest.mark.parametrize(
    ("values", "part", "message"),
    [
        ([[1.5]], {"kind": "sequence", "dtype": "int64"}, "lists of numbers that become int64"),
        ([1.5], {"kind": "sequence"}, "double; expected lists of numbers"),
        ([["a"]], {"kind": "sequence"}, "lists of numbers that become float32"),
        ([[[1.0]]], {"kind": "sequence"}, "lists of numbers, or of fixed-size lists"),
        ([[1.0]], {"kind": "tensor"}, "fixed size or of the shape"),
        ([[1.0]], {"kind": "tensor", "shape": [1, 2]}, r"shape \[1, 2\]"),
        ([[1]], {"kind": "sequence", "pad": 0.5}, r"data.inputs.x.pad: 0.5; expected an integer"),
        ([[1]], {"kind": "sequence", "dtype": "bool"}, "become bool"),
    ],
)
def test_columns_that_do_not_fit(make_source, make_data, values, part, message) -> None:
    source = make_source({"a": values, "y": [0]})
    with pytest.raises(DataError, match=message):
        check_columns(source, make_data({"x": {"columns": ["a"], **part}}))


def test_no_step_in_any_row(make_source, make_data) -> None:
    lists = pa.array([[]] * 100, pa.list_(pa.int64()))
    source = make_source({"a": lists, "y": [0, 1] * 50})
    data = make_data({"x": {"kind": "sequence", "columns": ["a"]}}, batch_rows=7)
    with pytest.raises(DataError, match="no value on the training split"):
        fit(source, data, SILENT)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": {"kind": "sequence", "columns": ["a"], "mask": "x"}}, "makes already"),
        (
            {
                "x": {"kind": "sequence", "columns": ["a"], "mask": "m"},
                "z": {"kind": "sequence", "columns": ["b"], "mask": "m"},
            },
            "makes already",
        ),
        (
            {"x": {"kind": "sequence", "columns": ["a"], "dtype": "int64", "scale": "standard"}},
            "cannot be combined",
        ),
        ({"x": {"kind": "tensor", "columns": ["a", "b"]}}, "at most 1 item"),
    ],
)
def test_sections_that_contradict_themselves(make_data, inputs, message) -> None:
    with pytest.raises(ValidationError, match=message):
        make_data(inputs)


def test_categorical_codes_of_the_models_type(make_source, make_data) -> None:
    columns = {"a": [1, 2] * 50, "y": [0, 0, 1, 1] * 25}
    part = {"kind": "categorical", "columns": ["a"], "encode": "none", "dtype": "int32"}
    source, data = make_source(columns), make_data({"x": part})
    fitted = fit(source, data, SILENT)
    assert next(Dataset(source, data, fitted).batches("training")).inputs["x"].dtype == np.int32
    text = encoder_to_json(fitted.encoder)
    assert encoder_to_json(encoder_from_json(text, "e")) == text
    beyond = make_source({**columns, "a": [1, 2**40] * 50})
    with pytest.raises(DataError, match=r"row 1 .*codes within int32"):
        list(Dataset(beyond, data, fitted).batches("training"))
