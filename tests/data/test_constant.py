"""Inputs that are the same for every row: the state from which it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from qtool.config.data import ConstantInput
from qtool.data.batch import join
from qtool.data.dataset import Dataset
from qtool.data.encoder_file import encoder_from_json, encoder_to_json
from qtool.data.fitting import fit
from qtool.data.observed import observe
from qtool.data.signature import Tensor
from qtool.errors import StaleArtifactError
from qtool.progress import SilentProgress

SILENT = SilentProgress()
INPUTS: dict[str, Any] = {
    "tokens": {"kind": "sequence", "columns": ["t"], "length": 4, "mask": "m", "any_length": True},
    "past": {"kind": "constant", "shape": [2, "past", 3]},
    "state": {"kind": "constant", "shape": [5], "value": -1.5},
    "count": {"kind": "constant", "shape": [], "value": 7, "dtype": "int64"},
}


@pytest.fixture
def dataset(make_source, make_data) -> Dataset:
    random = np.random.default_rng(0)
    columns = {"t": random.integers(1, 9, (300, 4)).tolist(), "y": random.integers(0, 2, 300)}
    source, data = make_source(columns), make_data(INPUTS)
    return Dataset(source, data, fit(source, data, SILENT))


def test_every_row_has_it(dataset: Dataset, tmp_path: Path) -> None:
    signature = dataset.fitted.encoder.signature()
    assert signature["past"] == Tensor("float32", (2, 0, 3))
    assert signature["state"] == Tensor("float32", (5,))
    assert signature["count"] == Tensor("int64", ())
    batch = join(list(dataset.batches("training", 17)))
    assert batch.inputs["past"].shape == (len(batch), 2, 0, 3)
    assert (batch.inputs["state"] == np.float32(-1.5)).all()
    assert batch.inputs["count"].tolist() == [7] * len(batch)
    raw = join(list(dataset.raw_batches("training")))
    np.testing.assert_array_equal(raw.inputs["state"], batch.inputs["state"])
    on_disk = dataset.materialize("training", tmp_path, SILENT)
    assert on_disk.inputs["past"][[0, 2]].shape == (2, 2, 0, 3)
    assert len(on_disk) == len(batch)


def test_reports_on_columns_leave_it_out(dataset: Dataset) -> None:
    batch = next(dataset.batches("training"))
    assert {column.input for column in observe(dataset.fitted.encoder, [batch.inputs])} == {
        "tokens"
    }


def test_the_file_keeps_it(dataset: Dataset, make_source, make_data, tmp_path: Path) -> None:
    text = encoder_to_json(dataset.fitted.encoder)
    assert encoder_to_json(encoder_from_json(text, "encoder.json")) == text
    path = tmp_path / "encoder.json"
    path.write_text(text)
    assert encoder_to_json(
        fit(dataset.source, make_data(INPUTS, encoder=str(path)), SILENT).encoder
    )
    for change in ({"value": 2.0}, {"shape": [6]}):
        changed = make_data({**INPUTS, "state": {**INPUTS["state"], **change}}, encoder=str(path))
        with pytest.raises(StaleArtifactError, match="state: ConstantEncoding"):
            fit(dataset.source, changed, SILENT)
    for change in ({"shape": [-1]}, {"dtype": "text"}, {"value": float("nan")}):
        raw = json.loads(text)
        raw["inputs"]["state"].update(change)
        with pytest.raises(StaleArtifactError, match="not an encoder"):
            encoder_from_json(json.dumps(raw), "encoder.json")


def test_axes_of_any_size(make_data) -> None:
    assert make_data(INPUTS).any_size == {
        "past": {2: "past"},
        "tokens": {1: "steps"},
        "m": {1: "steps"},
    }
    fixed = {name: part for name, part in INPUTS.items() if name in ("state", "count")}
    assert make_data({**fixed, "age": {"columns": ["age"]}}).any_size == {}
    with pytest.raises(ValidationError, match="inputs are constants only"):
        make_data(fixed)


@pytest.mark.parametrize(
    "section",
    [{"shape": [0]}, {"shape": [True]}, {"shape": [1.0]}, {"shape": ["2x"]},
     {"shape": [1], "dtype": "int64", "value": 0.5}, {"shape": [1], "columns": ["a"]}],
)  # fmt: skip
def test_sections_that_are_refused(section) -> None:
    with pytest.raises(ValidationError):
        ConstantInput.model_validate({"kind": "constant", **section})
